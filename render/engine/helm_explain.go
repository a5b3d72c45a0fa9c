package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

var (
	// What `fail` and `required` say, and what a template says that cannot be parsed.
	saidAt = regexp.MustCompile(`(?s)^(?:execution|parse) error (?:at|in) \(([^:)]+)(?::(\d+))?(?::\d+)?\): (.*)$`)
	// The lines of a trace: where it was, with which call, and what was wrong.
	tracePlace = regexp.MustCompile(`(?m)^([^\s:]+):(\d+)(?::\d+)?$`)
	traceCall  = regexp.MustCompile(`(?m)^\s*executing ".*" at (<.*>):$`)
	// What is left as Go tells it, in one line that grows with every call.
	untold = regexp.MustCompile(`(?s)^template: ([^\s:]+):(\d+).*>: (?:error calling \S+ )?(.+)$`)
	// A template that worked, but did not give YAML.
	notYAML = regexp.MustCompile(`(?s)^YAML parse error on ([^:]+): (.*)$`)
)

// explain says what is wrong before it says where, and finds the file in the repository.
func (r *helmRun) explain(err error) *failure {
	if refusal := r.source.repository.refusal; refusal != nil {
		return refusal
	}
	if known := (*failure)(nil); errors.As(err, &known) {
		return known
	}
	text := strings.TrimSpace(err.Error())
	why := &failure{Code: helmFailed, Message: text}
	if said := saidAt.FindStringSubmatch(text); said != nil {
		why.Message = fmt.Sprintf("%s\nin the template %s", said[3], atLine(said[1], said[2]))
		r.place(why, said[1], said[2])
	} else if bad := notYAML.FindStringSubmatch(text); bad != nil {
		why.Message = fmt.Sprintf("%s\nin what the template %s gave", bad[2], bad[1])
		why.Hint = "the line is one of the output, not of the template"
		r.place(why, bad[1], "")
	} else if places := tracePlace.FindAllStringSubmatch(text, -1); places != nil {
		innermost := places[len(places)-1]
		why.Message = headline(text) + "\n" + text
		r.place(why, innermost[1], innermost[2])
	} else if deep := untold.FindStringSubmatch(text); deep != nil {
		why.Message = fmt.Sprintf("%s\nin the template %s", deep[3], atLine(deep[1], deep[2]))
		r.place(why, deep[1], deep[2])
	} else {
		why.File = r.source.unreadable(text)
	}
	if r.lookedUp {
		why.Code = helmLookup
		why.Hint = "set `lookup: empty` for the target, if the chart works when nothing is found"
	}
	if r.frozen != nil && r.frozen.stays {
		why.Code = helmVolatile
		why.Hint = "give in `values` what the chart would make by itself there"
	}
	return why
}

// headline is what a trace comes to: its last line, and the call that it was about.
func headline(trace string) string {
	last := trace[strings.LastIndexByte(trace, '\n')+1:]
	calls := traceCall.FindAllStringSubmatch(trace, -1)
	if calls == nil {
		return strings.TrimSpace(last)
	}
	return fmt.Sprintf("%s at %s", strings.TrimSpace(last), calls[len(calls)-1][1])
}

func (r *helmRun) place(why *failure, template, line string) {
	why.File = r.source.fileOf(template)
	if strings.HasSuffix(why.File, template[strings.LastIndexByte(template, '/')+1:]) {
		fmt.Sscan(line, &why.Line)
	}
}

func atLine(template, line string) string {
	if line == "" {
		return template
	}
	return template + ":" + line
}

// lineOf finds the line that a YAML parser names.
func lineOf(text string) (line int) {
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		fmt.Sscan(found[1], &line)
	}
	return line
}
