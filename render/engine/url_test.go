package main

import "testing"

// What a chart names may have a password in it wherever it is fetched from, and errors are shown to many.
func TestNoURLIsToldWithWhatMayBeASecret(t *testing.T) {
	for url, shown := range map[string]string{
		"https://charts.example.org/a@b":                    "https://charts.example.org/a@b",
		"https://ada:hunter2@charts.example.org/a":          "https://charts.example.org/a",
		"https://charts.example.org/a?access_token=hunter2": "https://charts.example.org/a",
		"s3://key:hunter2@bucket/charts":                    "s3://bucket/charts",
		"https://ada:hun/ter2@charts.example.org/a":         "https://…",
		"@stable": "@stable",
	} {
		if got := withoutSecrets(url); got != shown {
			t.Errorf("%s is told as %s, and not as %s", url, got, shown)
		}
	}
}
