package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"maps"
	"math/big"
	"reflect"
	"slices"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
)

// A chart that asks the clock or makes random things gives something else each time. Whoever renders it a second time, to see
// whether it stays the same, must not depend on luck: the second time the clock is years away, and what is random has
// nothing in common with the first time's. What has the order of a Go map is sorted, which is one that Helm may give. What is
// frozen needs none of this: see helm_frozen.go.

// alwaysOther have so many random bits that two renders never agree.
var alwaysOther = []string{
	"uuidv4", "genCA", "genCAWithKey", "genPrivateKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert",
	"genSignedCertWithKey", "bcrypt", "htpasswd", "encryptAES",
}

// secondClock differs from the first in the year, the month, the day, the weekday and all of the time.
const secondClock = 1255*24*time.Hour + 13*time.Hour + 17*time.Minute + 29*time.Second + 123456789*time.Nanosecond

// sameFunctions are those of Sprig that may give something else each time, in such a way that it can be told.
func (r *helmRun) sameFunctions() template.FuncMap {
	functions, all := template.FuncMap{}, sprig.TxtFuncMap()
	maps.Copy(functions, r.clockFunctions(all))
	maps.Copy(functions, sortedFunctions())
	if r.frozen != nil {
		maps.Copy(functions, r.frozen.functions())
		return functions
	}
	for _, name := range alwaysOther {
		original := reflect.ValueOf(all[name])
		functions[name] = reflect.MakeFunc(original.Type(), func(arguments []reflect.Value) []reflect.Value {
			r.note(name)
			if original.Type().IsVariadic() {
				return original.CallSlice(arguments)
			}
			return original.Call(arguments)
		}).Interface()
	}
	maps.Copy(functions, r.randomFunctions())
	return functions
}

func (r *helmRun) note(function string) {
	if !slices.Contains(r.volatile, function) {
		r.volatile = append(r.volatile, function)
	}
}

func (r *helmRun) now(asks string) time.Time {
	if r.frozen != nil {
		return r.frozen.At.UTC()
	}
	r.note(asks)
	if r.again {
		return time.Now().Add(secondClock)
	}
	return time.Now()
}

// clockFunctions are those that take the clock where they are given no time, too.
func (r *helmRun) clockFunctions(all template.FuncMap) template.FuncMap {
	inZone := all["dateInZone"].(func(string, any, string) string)
	given := func(function string, date any) any {
		switch date.(type) {
		case time.Time, *time.Time, int64, int, int32:
			return date
		default:
			return r.now(function)
		}
	}
	round := all["durationRound"].(func(any) string)
	return template.FuncMap{
		"now":  func() time.Time { return r.now("now") },
		"date": func(format string, date any) string { return inZone(format, given("date", date), "Local") },
		"dateInZone": func(format string, date any, zone string) string {
			return inZone(format, given("dateInZone", date), zone)
		},
		"date_in_zone": func(format string, date any, zone string) string {
			return inZone(format, given("date_in_zone", date), zone)
		},
		"htmlDate": func(date any) string { return inZone("2006-01-02", given("htmlDate", date), "Local") },
		"htmlDateInZone": func(date any, zone string) string {
			return inZone("2006-01-02", given("htmlDateInZone", date), zone)
		},
		"ago": func(date any) string {
			now := r.now("ago")
			then := now
			switch date := date.(type) {
			case time.Time:
				then = date
			case int64:
				then = time.Unix(date, 0)
			case int:
				then = time.Unix(int64(date), 0)
			}
			return now.Sub(then).Round(time.Second).String()
		},
		"durationRound": func(duration any) string {
			if then, isTime := duration.(time.Time); isTime {
				return round(int64(r.now("durationRound").Sub(then)))
			}
			return round(duration)
		},
	}
}

const (
	lettersFirst, lettersAgain = "ABCDEFGHIJKLMabcdefghijklm", "NOPQRSTUVWXYZnopqrstuvwxyz"
	digitsFirst, digitsAgain   = "01234", "56789"
	signsFirst, signsAgain     = ` !"#$%&'()*+,-./`, ":;<=>?@[\\]^_`{|}~"
)

// randomFunctions take from one half of what there is the first time, and from the other one the second time.
func (r *helmRun) randomFunctions() template.FuncMap {
	of := func(name, first, again string) func(int) string {
		return func(length int) string {
			r.note(name)
			from := first
			if r.again {
				from = again
			}
			text := make([]byte, max(length, 0))
			for at := range text {
				text[at] = from[below(len(from))]
			}
			return string(text)
		}
	}
	return template.FuncMap{
		"randAlpha":    of("randAlpha", lettersFirst, lettersAgain),
		"randNumeric":  of("randNumeric", digitsFirst, digitsAgain),
		"randAlphaNum": of("randAlphaNum", lettersFirst+digitsFirst, lettersAgain+digitsAgain),
		"randAscii":    of("randAscii", signsFirst+digitsFirst+lettersFirst, signsAgain+digitsAgain+lettersAgain),
		"randBytes": func(length int) (string, error) {
			r.note("randBytes")
			random := make([]byte, length)
			_, err := rand.Read(random)
			for at := range random {
				random[at] &= 0x7f
				if r.again {
					random[at] |= 0x80
				}
			}
			return base64.StdEncoding.EncodeToString(random), err
		},
		"randInt": func(least, above int) (int, error) {
			r.note("randInt")
			if above <= least {
				return 0, errors.New("there is no number between the two")
			}
			if r.again {
				return above - 1, nil
			}
			return least, nil
		},
		// Turned by one, a text is only the same if any order of it is.
		"shuffle": func(text string) string {
			r.note("shuffle")
			letters := []rune(text)
			if r.again && len(letters) > 0 {
				letters = append(letters[1:], letters[0])
			}
			return string(letters)
		},
	}
}

func below(above int) int {
	drawn, err := rand.Int(rand.Reader, big.NewInt(int64(above)))
	if err != nil {
		panic(err)
	}
	return int(drawn.Int64())
}

func sortedFunctions() template.FuncMap {
	return template.FuncMap{
		"keys": func(of ...map[string]any) []string {
			all := []string{}
			for _, each := range of {
				all = append(all, sortedKeys(each)...)
			}
			return all
		},
		"values": func(of map[string]any) []any {
			all := []any{}
			for _, key := range sortedKeys(of) {
				all = append(all, of[key])
			}
			return all
		},
	}
}

func sortedKeys(of map[string]any) []string { return slices.Sorted(maps.Keys(of)) }
