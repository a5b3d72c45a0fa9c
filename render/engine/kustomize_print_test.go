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

func TestAJSONPatchDoesNotTakeTheQuotesOff(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"app/kustomization.yaml": `
resources: [web.yaml, thing.yaml, secret.yaml]
patches:
- target: {kind: Deployment}
  patch: |
    - {op: replace, path: /spec/replicas, value: 2}
    - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: ADDED, value: "${added}"}}
- target: {kind: Thing}
  patch: |
    - {op: add, path: /spec/more, value: true}
- target: {kind: Secret}
  patch: |
    - {op: add, path: /metadata/labels, value: {a: b}}
`,
		"app/web.yaml": `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 1
  template:
    spec:
      containers:
      - name: web
        args: ["--port", "${port}"]
        env: [{name: PORT, value: "${port}"}]
        ports:
        - containerPort: ${port}
        livenessProbe:
          httpGet:
            port: ${probe}
`,
		"app/thing.yaml":  "apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t}\nspec:\n  text: \"${zone}\"\n  number: ${number}\n",
		"app/secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {pin: \"${pin}\"}\n",
	})

	documents, failed := engine.render(from, request{Kind: "kustomize", Path: "app"})
	if failed != nil {
		t.Fatal(failed)
	}

	for _, line := range []string{
		`- "${port}"`, `value: "${port}"`, `value: "${added}"`, `containerPort: ${port}`, `port: ${probe}`,
		`text: "${zone}"`, `number: ${number}`, `pin: "${pin}"`,
	} {
		if !strings.Contains(documents, line+"\n") {
			t.Errorf("there is no line %s in\n%s", line, documents)
		}
	}
}

func TestAVariableInWhatIsGivenToAGeneratorOfSecretsIsToBeFilledIn(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"app/kustomization.yaml": `
resources: [written.yaml]
secretGenerator:
- {name: made, literals: ['password=${pw}', 'plain=x'], files: [conf.txt], envs: [a.env]}
`,
		"app/conf.txt":     "user ${user}\nhost x\n",
		"app/a.env":        "TOKEN=${token}\n",
		"app/written.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: written}\ndata: {a: JHthfQ==}\n",
	})

	documents, failed := engine.render(from, request{Kind: "kustomize", Path: "app"})
	if failed != nil {
		t.Fatal(failed)
	}

	for _, line := range []string{`password: "${pw}"`, `conf.txt: "user ${user}\nhost x\n"`, `TOKEN: "${token}"`, `plain: eA==`, `a: JHthfQ==`} {
		if !strings.Contains(documents, line+"\n") {
			t.Errorf("there is no line %s in\n%s", line, documents)
		}
	}
}
