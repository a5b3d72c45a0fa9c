package main

import (
	"strings"
	"testing"
)

func TestATextWithAVariableStaysInQuotes(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"app/kustomization.yaml": "resources: [service.yaml]\nconfigMapGenerator: [{name: made, literals: ['replicas=${replicas}']}]\nnamePrefix: p-",
		"app/service.yaml": `
apiVersion: v1
kind: Service
metadata: {name: s, annotations: {quoted: "${port}", single: '${port}', plain: "x"}}
spec:
  ports:
    - port: ${port}
      name: "${name}"
  note: |
    ${text}
`,
	})

	documents, failed := engine.render(from, request{Kind: "kustomize", Path: "app"})
	if failed != nil {
		t.Fatal(failed)
	}

	for _, line := range []string{
		`quoted: "${port}"`, `single: "${port}"`, `plain: x`, `port: ${port}`, `name: "${name}"`, `replicas: "${replicas}"`,
	} {
		if !strings.Contains(documents, line+"\n") {
			t.Errorf("there is no line %s in\n%s", line, documents)
		}
	}
}
