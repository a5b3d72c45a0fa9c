package main

import (
	"reflect"
	"slices"
	"text/template"

	"github.com/Masterminds/sprig/v3"
)

// volatileFunctions may give something else each time: they ask the clock, make random things, or have the order of a Go
// map. Who renders a chart twice to see whether it stays the same needs to do so only if one of them was called.
var volatileFunctions = []string{
	"now", "ago", "htmlDate",
	"randAlpha", "randAlphaNum", "randAscii", "randBytes", "randInt", "randNumeric", "shuffle", "uuidv4",
	"genCA", "genCAWithKey", "genPrivateKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey",
	"bcrypt", "htpasswd", "encryptAES",
	"keys", "values",
}

// watchVolatile gives the functions as they are, but that a call is noted.
func (r *helmRun) watchVolatile() template.FuncMap {
	watched, all := template.FuncMap{}, sprig.TxtFuncMap()
	for _, name := range volatileFunctions {
		original := reflect.ValueOf(all[name])
		watched[name] = reflect.MakeFunc(original.Type(), func(arguments []reflect.Value) []reflect.Value {
			if !slices.Contains(r.volatile, name) {
				r.volatile = append(r.volatile, name)
			}
			if original.Type().IsVariadic() {
				return original.CallSlice(arguments)
			}
			return original.Call(arguments)
		}).Interface()
	}
	return watched
}
