package main

import "regexp"

// Where Kustomize quotes what files have: it may be a secret, and what is said is kept. Each goes as far as the contents
// may, so that nothing in them ends it early.
var quotesContents = []struct {
	quoted *regexp.Regexp
	kept   string
}{
	{regexp.MustCompile("(?s) with config: `.*`: "), ": "},
	{regexp.MustCompile(`(?s)literal sources \[.*\]: invalid literal source .*, expected key=value`), "invalid literal source, expected key=value"},
	{regexp.MustCompile(`(?s)\[patch: .*\]`), "[patch]"},
	{regexp.MustCompile("(?s): node contents:\n.*"), ""},
	{regexp.MustCompile(`(?s)(must specify one of patch and path|patch and path can't be set at the same time) in\n.*`), "$1"},
	{regexp.MustCompile(`(?s)(patch and path can't be set at the same time)\n.*`), "$1"},
	{regexp.MustCompile(`(?s)(must specify a target for patch|for the following resource:|missing kind in object|missing metadata\.name in object|is not a string:|has invalid utf8 bytes :|is out of bounds for value) .*`), "$1 …"},
	{regexp.MustCompile(`(?s)(for the following resource:)\n.*`), "$1 …"},
	{regexp.MustCompile(`(?s)(empty item at .*) in object .*`), "$1"},
	{regexp.MustCompile(`(?s)(expected 1 resource, found \d+) in .*`), "$1"},
	{regexp.MustCompile(`(?s)(trouble (?:configuring|decoding)[^:]*: decoding) .*: `), "$1 …: "},
	{regexp.MustCompile("(?s)(cannot unmarshal !!\\S+) `.*?` into"), "$1 into"},
	{regexp.MustCompile(`(cannot unmarshal number) \S+ into`), "$1 into"},
	{regexp.MustCompile(`(?s)(invalid map key:) .*`), "$1 …"},
	{regexp.MustCompile(`(invalid label value:) ".*": at key`), "$1 at key"},
	// An address, which is another each time, and the object at it.
	{regexp.MustCompile(`from generator &?\{0x[0-9a-f]+[^}]*\}`), "from a generator"},
	{regexp.MustCompile(`\(?0x[0-9a-f]+\)?`), "…"},
}

// withoutContents keeps of a sentence of Kustomize's what is not out of a file.
func withoutContents(said string) string {
	for _, each := range quotesContents {
		said = each.quoted.ReplaceAllString(said, each.kept)
	}
	return said
}
