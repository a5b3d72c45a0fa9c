package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"text/template"
	"time"

	"golang.org/x/crypto/blowfish"
	chart "helm.sh/helm/v4/pkg/chart/v2"
)

// Where a target has what is volatile frozen, nothing is left to chance and to the clock: all of it follows from a seed that the
// parent keeps for the target, and from the time at which the seed was made. Each call has a stream of its own, by where it
// stands: the file of the chart, the function, its arguments, and how many such calls the file has made before. So what
// changes elsewhere in the chart moves nothing, and a file that is included for its checksum gives what it gives by itself.

// given is what was frozen in the render that goes on, for an error that quotes it: what is frozen is worth something to who
// reads it, as what is thrown away is not. What is short or stands at many places cannot be hidden anyway.
var given []string

const givenMax = 1000

func (f *frozen) give(text string, err error) (string, error) {
	if err == nil && len(given) < givenMax {
		given = append(given, text)
	}
	return text, err
}

// seedBytes is what no one can try all of.
const seedBytes = 32

// frozenRequest is what all that is frozen follows from.
type frozenRequest struct {
	Seed []byte    `json:"seed"`
	At   time.Time `json:"at"`
}

// frozen gives the same for the same seed, the same time and the same chart.
type frozen struct {
	frozenRequest
	// chart tells a chart from the others of a render, which may have files of the same names.
	chart []string
	// open are the files whose templates run, each included by the one before.
	open []*runOfFile
	// stays says that something was called that would be another each time, seed or not.
	stays bool
}

// runOfFile is one run of a file's template.
type runOfFile struct {
	file string
	// calls are how often each call was made, by what tells it from others.
	calls map[[sha256.Size]byte]int
}

func freeze(asked *frozenRequest, chart ...string) *frozen {
	if asked == nil {
		return nil
	}
	f := &frozen{frozenRequest: *asked, chart: chart}
	f.enter("")
	return f
}

func (f *frozen) enter(file string) string {
	f.open = append(f.open, &runOfFile{file: file, calls: map[[sha256.Size]byte]int{}})
	return ""
}

// leave keeps the outermost, which is no file's: a template may call what it was not given.
func (f *frozen) leave() string {
	if len(f.open) > 1 {
		f.open = f.open[:len(f.open)-1]
	}
	return ""
}

const enterFunction, leaveFunction = "bellwetherEnter", "bellwetherLeave"

// mark lets each file of templates say when it begins and when it ends. It stands in the first and in the last line, so
// that lines keep their numbers. A chart that is there twice, under two names, shares its files with the other one.
func (f *frozen) mark(loaded *chart.Chart) {
	loaded.Templates = slices.Clone(loaded.Templates)
	for index, file := range loaded.Templates {
		marked := *file
		begins := fmt.Sprintf("{{%s %q}}", enterFunction, loaded.ChartFullPath()+"/"+file.Name)
		marked.Data = fmt.Appendf(nil, "%s%s{{%s}}", begins, file.Data, leaveFunction)
		loaded.Templates[index] = &marked
	}
	for _, dependency := range loaded.Dependencies() {
		f.mark(dependency)
	}
}

// stream is without end, and tells nothing of the seed or of another one.
func (f *frozen) stream(function string, arguments ...any) (io.Reader, error) {
	here := f.open[len(f.open)-1]
	call, err := json.Marshal([]any{f.chart, here.file, function, arguments})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(call)
	place, err := json.Marshal([]any{digest[:], here.calls[digest]})
	if err != nil {
		return nil, err
	}
	here.calls[digest]++
	derived := hmac.New(sha256.New, f.Seed)
	derived.Write([]byte("bellwether frozen 1\n"))
	derived.Write(place)
	block, err := aes.NewCipher(derived.Sum(nil))
	if err != nil {
		return nil, err
	}
	// The key is this stream's alone.
	return cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), R: zeros{}}, nil
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) {
	clear(into)
	return len(into), nil
}

func (f *frozen) functions() template.FuncMap {
	functions := template.FuncMap{enterFunction: f.enter, leaveFunction: f.leave}
	for name, of := range map[string]string{
		"randAlpha":    lettersFirst + lettersAgain,
		"randNumeric":  digitsFirst + digitsAgain,
		"randAlphaNum": lettersFirst + lettersAgain + digitsFirst + digitsAgain,
		"randAscii":    signsFirst + digitsFirst + lettersFirst + signsAgain + digitsAgain + lettersAgain,
	} {
		functions[name] = func(length int) (string, error) { return f.give(f.text(name, of, length)) }
	}
	functions["randBytes"] = func(length int) (string, error) {
		bytes, err := f.bytes("randBytes", length)
		return f.give(base64.StdEncoding.EncodeToString(bytes), err)
	}
	functions["randInt"] = f.number
	functions["shuffle"] = f.shuffle
	functions["uuidv4"] = func() (string, error) { return f.give(f.uuid()) }
	functions["bcrypt"] = func(password string) (string, error) { return f.give(f.bcrypt("bcrypt", password)) }
	functions["htpasswd"] = func(name, password string) (string, error) {
		if strings.Contains(name, ":") {
			return "", fmt.Errorf("invalid username: %s", name)
		}
		hash, err := f.give(f.bcrypt("htpasswd", password, name))
		return name + ":" + hash, err
	}
	functions["encryptAES"] = func(_ ...any) (string, error) {
		return "", f.refuse("what `encryptAES` makes cannot be frozen")
	}
	f.addKeyFunctions(functions)
	return functions
}

func (f *frozen) refuse(why string) error {
	f.stays = true
	return errors.New(why)
}

func (f *frozen) bytes(function string, length int, arguments ...any) ([]byte, error) {
	stream, err := f.stream(function, append(arguments, length)...)
	if err != nil {
		return nil, err
	}
	bytes := make([]byte, max(length, 0))
	_, err = io.ReadFull(stream, bytes)
	return bytes, err
}

func (f *frozen) text(function, of string, length int) (string, error) {
	stream, err := f.stream(function, length)
	if err != nil {
		return "", err
	}
	text := make([]byte, max(length, 0))
	for at := range text {
		drawn, err := drawBelow(stream, len(of))
		if err != nil {
			return "", err
		}
		text[at] = of[drawn]
	}
	return string(text), nil
}

func drawBelow(stream io.Reader, above int) (int, error) {
	drawn, err := rand.Int(stream, big.NewInt(int64(above)))
	if err != nil {
		return 0, err
	}
	return int(drawn.Int64()), nil
}

func (f *frozen) number(least, above int) (int, error) {
	if above <= least {
		return 0, errors.New("there is no number between the two")
	}
	stream, err := f.stream("randInt", least, above)
	if err != nil {
		return 0, err
	}
	drawn, err := rand.Int(stream, new(big.Int).Sub(big.NewInt(int64(above)), big.NewInt(int64(least))))
	if err != nil {
		return 0, err
	}
	return int(drawn.Add(drawn, big.NewInt(int64(least))).Int64()), nil
}

func (f *frozen) shuffle(text string) (string, error) {
	stream, err := f.stream("shuffle", text)
	letters := []rune(text)
	for last := len(letters) - 1; err == nil && last > 0; last-- {
		var other int
		other, err = drawBelow(stream, last+1)
		letters[last], letters[other] = letters[other], letters[last]
	}
	return string(letters), err
}

func (f *frozen) uuid() (string, error) {
	id, err := f.bytes("uuidv4", 16)
	if err != nil {
		return "", err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4, of RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
}

// What is `$2a$10$` to every reader of a bcrypt hash: the version, and Sprig's cost.
const (
	bcryptHead, bcryptCost = "$2a$10$", 10
	bcryptSaltBytes        = 16
	// bcryptPasswordMax is what bcrypt looks at; the library refuses more, too.
	bcryptPasswordMax = 72
	// bcryptHashBytes are of the 24 that come out: the last one was never written.
	bcryptHashBytes = 23
)

var bcryptDigits = base64.NewEncoding("./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789").WithPadding(base64.NoPadding)

// bcrypt is what the library gives, whose salt nobody can choose.
func (f *frozen) bcrypt(function, password string, arguments ...any) (string, error) {
	if len(password) > bcryptPasswordMax {
		return "", fmt.Errorf("a password has at most %d bytes", bcryptPasswordMax)
	}
	salt, err := f.bytes(function, bcryptSaltBytes, append(arguments, password)...)
	if err != nil {
		return "", err
	}
	key := append([]byte(password), 0)
	state, err := blowfish.NewSaltedCipher(key, salt)
	if err != nil {
		return "", err
	}
	for range 1 << bcryptCost {
		blowfish.ExpandKey(key, state)
		blowfish.ExpandKey(salt, state)
	}
	hash := []byte("OrpheanBeholderScryDoubt")
	for at := 0; at < len(hash); at += blowfish.BlockSize {
		for range 64 {
			state.Encrypt(hash[at:at+blowfish.BlockSize], hash[at:at+blowfish.BlockSize])
		}
	}
	return bcryptHead + bcryptDigits.EncodeToString(salt) + bcryptDigits.EncodeToString(hash[:bcryptHashBytes]), nil
}
