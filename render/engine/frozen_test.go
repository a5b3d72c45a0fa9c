package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	"sigs.k8s.io/yaml"
)

var frozenAt = time.Date(2026, 5, 4, 3, 2, 1, 123456000, time.UTC)

// frozenBy asks for a chart whose seed is made of one byte.
func frozenBy(seed byte) request {
	helm := *ofChart.Helm
	helm.Frozen = &frozenRequest{Seed: bytes.Repeat([]byte{seed}, seedBytes), At: frozenAt}
	return request{Kind: "helm", Path: "chart", Helm: &helm}
}

// valueOf is what a chart has at `d` of its only object.
func (c *child) valueOf(from string, asked request) string {
	c.t.Helper()
	documents, failed := c.render(from, asked)
	if failed != nil {
		c.t.Fatalf("%+v", failed)
	}
	var object struct{ Data struct{ D string } }
	if err := yaml.Unmarshal([]byte(documents), &object); err != nil {
		c.t.Fatal(err)
	}
	return object.Data.D
}

func dataOf(t *testing.T, expression string) string {
	return chartWith(t, strings.Replace(ofData, "%s", "{{ "+expression+" | toString | quote }}", 1))
}

func TestWhatIsFrozenIsTheSameEachTimeAndAnotherOfAnotherSeed(t *testing.T) {
	first, second := start(t, enginePath, nil), start(t, enginePath, nil)
	for _, expression := range []string{
		`randAlpha 20`, `randNumeric 20`, `randAlphaNum 20`, `randAscii 20`, `randBytes 20`, `randInt 0 1000000000`,
		`shuffle "abcdefghijklmnopqrstuvwxyz"`, `uuidv4`, `bcrypt "a"`, `htpasswd "a" "b"`,
		`genPrivateKey "ecdsa"`, `genPrivateKey "ed25519"`, `genPrivateKey "rsa"`, `(genCA "a" 1).Key`, `(genCA "a" 1).Cert`,
		`(genSelfSignedCert "a" nil nil 1).Cert`, `(genCAWithKey "a" 1 (genPrivateKey "ecdsa")).Cert`,
		`(genSelfSignedCertWithKey "a" nil nil 1 (genPrivateKey "ed25519")).Cert`,
		`(genSignedCert "a" nil nil 1 (genCA "b" 1)).Cert`,
		`(genSignedCertWithKey "a" nil nil 1 (genCAWithKey "b" 1 (genPrivateKey "ecdsa")) (genPrivateKey "ecdsa")).Cert`,
	} {
		from := dataOf(t, expression)

		one, again, other := first.valueOf(from, frozenBy(1)), second.valueOf(from, frozenBy(1)), first.valueOf(from, frozenBy(2))

		if one != again || one == other || one == "" || len(second.volatile) > 0 {
			t.Errorf("%s: %q, then %q, of another seed %q, and told was %v", expression, one, again, other, second.volatile)
		}
	}
}

// Whoever makes something else of the same seed changes every password that was ever frozen: this is no golden to be written
// anew. Where the libraries give something else, what is frozen has to be made without them.
func TestWhatWasFrozenOnceIsNeverAnother(t *testing.T) {
	engine := start(t, enginePath, nil)
	for expression, expected := range map[string]string{
		`randAlphaNum 20`:      "Pe3tlq8ZyoAkX68WTpSa",
		`randBytes 20`:         "A/w3bX78fG9ypy6cjUIGPLa49AY=",
		`randInt 0 1000000000`: "972095196",
		`uuidv4`:               "d2b6a447-f13b-4ab6-87d9-33d5aed2b613",
		`bcrypt "a"`:           "$2a$10$YKK6iYTmiLBODoSd3EU/zOeTPO/Gap5k7c9MbADX55HZe5Gs6VSDa",
		`now | date "2006-01-02T15:04:05.000000"`:                                     "2026-05-04T03:02:01.123456",
		`genPrivateKey "ecdsa" | sha256sum`:                                           "939af8a630dcc73e6c42486b51ba67ee51f0cfb0b8baa7dae37f9c067af07949",
		`genPrivateKey "rsa" | sha256sum`:                                             "c3a40712c4386a48613cd55949e02d0380497ad15efd7605a8e85c515a139258",
		`(genSelfSignedCert "a" (list "10.0.0.1") (list "a.b") 365).Cert | sha256sum`: "63582a952764bae6c97c13532bed5d4d2efdf7967ce57b0715390566320455cd",
	} {
		if given := engine.valueOf(dataOf(t, expression), frozenBy(1)); given != expected {
			t.Errorf("%s gives %q", expression, given)
		}
	}
}

func TestWhatIsFrozenLooksLikeWhatItIs(t *testing.T) {
	engine := start(t, enginePath, nil)
	for expression, pattern := range map[string]string{
		`randAlpha 300`: `^[a-zA-Z]{300}$`, `randNumeric 300`: `^[0-9]{300}$`, `randAlphaNum 300`: `^[a-zA-Z0-9]{300}$`,
		`randAscii 300`: `^[ -~]{300}$`, `randInt 5 8`: `^[567]$`, `shuffle "aab"`: `^(aab|aba|baa)$`, `randAlpha 0`: `^$`,
		`uuidv4`:               `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
		`date "2006-01-02" ""`: `^2026-05-04$`, `ago now`: `^0s$`, `genPrivateKey "rsa"`: `^-----BEGIN RSA PRIVATE KEY-----`,
	} {
		if given := engine.valueOf(dataOf(t, expression), frozenBy(1)); !regexp.MustCompile(pattern).MatchString(given) {
			t.Errorf("%s gives %q", expression, given)
		}
	}
	hash := engine.valueOf(dataOf(t, `htpasswd "somebody" "a password"`), frozenBy(1))
	name, hash, _ := strings.Cut(hash, ":")
	if err := bcrypt.CompareHashAndPassword([]byte(hash), []byte("a password")); err != nil || name != "somebody" {
		t.Errorf("%s:%s: %v", name, hash, err)
	}
}

const ofCertificates = `{{- $ca := genCA "authority" 3650 }}
{{- $rebuilt := buildCustomCert (b64enc $ca.Cert) (b64enc $ca.Key) }}
{{- $key := genPrivateKey "ecdsa" }}
apiVersion: v1
kind: Secret
metadata: {name: a}
stringData:
  authority: {{ $ca.Cert | quote }}
{{- range $name, $made := dict "rsa" (genSignedCert "web" (list "10.0.0.1") (list "web.example.org") 30 $ca)
  "ecdsa" (genSignedCertWithKey "web" nil (list "web.example.org") 30 $rebuilt $key) }}
  {{ $name }}: {{ $made.Cert | quote }}
  {{ $name }}-key: {{ $made.Key | quote }}
{{- end }}
`

func TestFrozenCertificatesAreSignedByTheirAuthorityAndBeginWhenTheSeedWasMade(t *testing.T) {
	engine := start(t, enginePath, nil)

	documents, failed := engine.render(chartWith(t, ofCertificates), frozenBy(1))
	if failed != nil {
		t.Fatalf("%+v", failed)
	}

	var secret struct{ StringData map[string]string }
	if err := yaml.Unmarshal([]byte(documents), &secret); err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM([]byte(secret.StringData["authority"]))
	serials := map[string]bool{}
	for _, name := range []string{"rsa", "ecdsa"} {
		pair, err := tls.X509KeyPair([]byte(secret.StringData[name]), []byte(secret.StringData[name+"-key"]))
		if err != nil {
			t.Fatal(err)
		}
		options := x509.VerifyOptions{Roots: authorities, DNSName: "web.example.org", CurrentTime: frozenAt.Add(time.Hour)}
		if _, err := pair.Leaf.Verify(options); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if from := frozenAt.Truncate(time.Second); !pair.Leaf.NotBefore.Equal(from) || !pair.Leaf.NotAfter.Equal(from.AddDate(0, 0, 30)) {
			t.Errorf("%s: from %s to %s", name, pair.Leaf.NotBefore, pair.Leaf.NotAfter)
		}
		serials[pair.Leaf.SerialNumber.String()] = true
	}
	if len(serials) != 2 {
		t.Errorf("both have the number %v", serials)
	}
}

const ofSecret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {p: {{ randAlphaNum 20 }}, q: {{ include \"password\" . }}}\n"

// linesOf renders a chart with these templates, and gives its lines.
func (c *child) linesOf(files map[string]string, asked request) (lines []string) {
	c.t.Helper()
	all := map[string]string{
		"chart/Chart.yaml":             "{apiVersion: v2, name: shop, version: 1.0.0}",
		"chart/templates/_helpers.tpl": `{{ define "password" }}{{ randAlphaNum 20 }}{{ end }}`,
	}
	for name, content := range files {
		all["chart/templates/"+name] = content
	}
	documents, failed := c.render(folderOf(c.t.(*testing.T), all), asked)
	if failed != nil {
		c.t.Fatalf("%+v", failed)
	}
	return strings.Split(documents, "\n")
}

func TestWhatChangesElsewhereInAChartMovesNothingThatIsFrozen(t *testing.T) {
	engine := start(t, enginePath, nil)
	before := engine.linesOf(map[string]string{"m.yaml": ofSecret}, frozenBy(1))
	of := func(lines []string) string {
		return lines[slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "stringData") })]
	}
	password := regexp.MustCompile(`p: (\w{20}), q: (\w{20})`).FindStringSubmatch(of(before))
	if password == nil || password[1] == password[2] {
		t.Fatalf("two calls of one file: %s", before)
	}

	beside := strings.Replace(strings.Replace(ofSecret, "name: a", "name: b", 1), "Secret", "ConfigMap", 1)
	sum := `{{ include (print $.Template.BasePath "/m.yaml") . | sha256sum }}`
	for name, files := range map[string]map[string]string{
		"earlier":  {"a.yaml": beside},
		"later":    {"z.yaml": beside},
		"included": {"a.yaml": strings.Replace(ofData, "%s", sum, 1)},
		"lines":    {"m.yaml": "{{- if true }}\n# Nothing.\n" + ofSecret + "{{- end }}\n"},
	} {
		if _, changed := files["m.yaml"]; !changed {
			files["m.yaml"] = ofSecret
		}
		after := engine.linesOf(files, frozenBy(1))
		all := strings.Join(after, "\n")
		if !strings.Contains(all, of(before)) {
			t.Errorf("%s: it was %s, and is %s", name, of(before), all)
		}
		if name == "included" {
			expected := sha256.Sum256([]byte(strings.Join(before[2:], "\n")))
			if !strings.Contains(all, hex.EncodeToString(expected[:])) {
				t.Errorf("its sum is of something else: %s", all)
			}
		} else if name != "lines" && strings.Count(all, password[1]) != 1 {
			t.Errorf("two files have the same: %s", all)
		}
	}
}

func TestTwoReleasesOfAChartInAKustomizationHavePasswordsOfTheirOwn(t *testing.T) {
	engine := start(t, enginePath, nil)
	from := folderOf(t, map[string]string{
		"app/kustomization.yaml": "helmCharts:\n- {name: web, releaseName: a}\n- {name: web, releaseName: b}\n" +
			"- {name: web, nameTemplate: 'c-{{ randAlpha 4 | lower }}'}\n",
		"app/charts/web/Chart.yaml":         "{apiVersion: v2, name: web, version: 1.0.0}",
		"app/charts/web/values.yaml":        "a: b",
		"app/charts/web/templates/web.yaml": strings.Replace(strings.Replace(ofData, "%s", "{{ randAlphaNum 20 }}", 1), "name: a", "name: '{{ .Release.Name }}'", 1),
	})
	asked := frozenBy(1)
	asked.Kind, asked.Path = "kustomize", "app"

	once, failed := engine.render(from, asked)
	twice, _ := engine.render(from, asked)

	passwords := regexp.MustCompile(`d: \w{20}`).FindAllString(once, -1)
	slices.Sort(passwords)
	if failed != nil || once != twice || len(slices.Compact(passwords)) != 3 {
		t.Errorf("%+v\n%s\n%s", failed, once, twice)
	}
}

func TestAChartThatIsThereUnderTwoNamesHasPasswordsOfItsOwnUnderEach(t *testing.T) {
	engine := start(t, enginePath, nil)
	named := strings.Replace(strings.Replace(ofData, "%s", "{{ randAlphaNum 20 }}", 1), "name: a", "name: '{{ .Chart.Name }}'", 1)
	from := folderOf(t, map[string]string{
		"chart/Chart.yaml": "{apiVersion: v2, name: shop, version: 1.0.0, dependencies: " +
			"[{name: db, version: 1.0.0, alias: a}, {name: db, version: 1.0.0, alias: b}]}",
		"chart/charts/db/Chart.yaml":        "{apiVersion: v2, name: db, version: 1.0.0}",
		"chart/charts/db/templates/db.yaml": named,
	})

	once, failed := engine.render(from, frozenBy(1))
	twice, _ := engine.render(from, frozenBy(1))

	passwords := regexp.MustCompile(`d: \w{20}`).FindAllString(once, -1)
	slices.Sort(passwords)
	if failed != nil || once != twice || len(slices.Compact(passwords)) != 2 {
		t.Errorf("%+v\n%s\n%s", failed, once, twice)
	}
}

func TestWhatCannotBeFrozenIsRefusedWhereItIsCalled(t *testing.T) {
	engine := start(t, enginePath, nil)
	for expression, says := range map[string]string{
		`encryptAES "a" "b"`:  "what `encryptAES` makes cannot be frozen",
		`genPrivateKey "dsa"`: "a key of the kind `dsa` cannot be frozen",
	} {
		template := strings.Replace(ofData, "%s", "{{ "+expression+" | quote }}", 1)
		for name, from := range map[string]string{
			"line 5": chartWith(t, template),
			"line 1": chartWith(t, "{{ if "+expression+" }}{{ end }}"),
		} {
			_, failed := engine.render(from, frozenBy(1))

			line := map[string]int{"line 5": 5, "line 1": 1}[name]
			if failed == nil || failed.Code != helmVolatile || failed.File != "chart/templates/greedy.yaml" || failed.Line != line {
				t.Errorf("%s: %+v", expression, failed)
			} else if !strings.Contains(failed.Message, says) || failed.Hint == "" {
				t.Errorf("%s: %+v", expression, failed)
			}
		}
	}
}

func TestASeedThatIsTooShortIsRefused(t *testing.T) {
	engine := start(t, enginePath, nil)
	asked := frozenBy(1)
	asked.Helm.Frozen.Seed = asked.Helm.Frozen.Seed[:16]

	_, failed := engine.render(dataOf(t, "randAlpha 1"), asked)

	if failed == nil || failed.Code != badRequest {
		t.Errorf("%+v", failed)
	}
}

// The marks that tell which file's template runs are seen nowhere.
func TestAChartThatLeavesNothingToChanceGivesTheSameWhereItIsFrozen(t *testing.T) {
	engine := start(t, enginePath, nil)
	for _, kind := range []string{"helm", "over"} {
		for _, each := range corpus(t, kind, "chart") {
			t.Run(each.name, func(t *testing.T) {
				engine.t = t
				each.request.Helm.Frozen = frozenBy(1).Helm.Frozen
				each.check(t, engine)
			})
		}
	}
	engine.t = t
	for name, template := range map[string]string{
		"calls marks": "{{ bellwetherLeave }}{{ bellwetherLeave }}{{ bellwetherEnter \"x\" }}" + fmt.Sprintf(ofData, "{{ randAlpha 3 }}"),
		"trims":       "\n {{- /* a */ -}}\n" + fmt.Sprintf(ofData, "b") + " {{- /* c */ -}} \n",
	} {
		if documents, failed := engine.render(chartWith(t, template), frozenBy(1)); failed != nil || strings.Contains(documents, "bellwether") {
			t.Errorf("%s: %+v %s", name, failed, documents)
		}
	}
}
