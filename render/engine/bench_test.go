package main

import "testing"

func BenchmarkAChart(b *testing.B) {
	benchmark(b, "testdata/helm/plain", request{Kind: "helm", Path: "chart", Helm: &helmRequest{Release: "r", Namespace: "n"}})
}

func BenchmarkAnOverlay(b *testing.B) {
	benchmark(b, "testdata/kustomize/component", request{Kind: "kustomize", Path: "app"})
}

func benchmark(b *testing.B, from string, asked request) {
	engine := start(b, enginePath, nil)
	for b.Loop() {
		if _, failed := engine.render(from, asked); failed != nil {
			b.Fatal(failed)
		}
	}
}
