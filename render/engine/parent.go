package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"
)

// parent is the other end of the pipes. Without it there is nobody to render for: when it is gone, the engine ends.
type parent struct {
	in  *bufio.Reader
	out io.Writer
	// sending is held while a frame is written, so that a frame that gives up does not stand inside another one.
	sending sync.Mutex
}

// nextRequest waits for a request, and ends the engine when there will be none.
func (p *parent) nextRequest() request {
	var frame struct {
		Render *request `json:"render"`
	}
	err := readFrame(p.in, &frame)
	if err == io.EOF {
		os.Exit(0)
	}
	if err == nil && frame.Render == nil {
		err = fmt.Errorf("the frame has no request")
	}
	if err != nil {
		p.end(err)
	}
	return *frame.Render
}

// ask waits for the answer to a question.
func (p *parent) ask(asked question) answer {
	p.send(message{question: asked})
	var got answer
	if err := readFrame(p.in, &got); err != nil {
		p.end(err)
	}
	return got
}

func (p *parent) send(what message) {
	p.sending.Lock()
	defer p.sending.Unlock()
	if err := writeFrame(p.out, what); err != nil {
		p.end(err)
	}
}

// giveUp tells why, and ends the engine: a template that goes on for ever cannot be stopped in another way.
func (p *parent) giveUp(why *failure) {
	p.sending.Lock()
	_ = writeFrame(p.out, message{Failed: why}) // it ends either way
	os.Exit(exitGaveUp)
}

// end is for a parent that is gone or does not keep to the protocol.
func (p *parent) end(why error) {
	complain(why.Error())
	os.Exit(exitProtocol)
}

const (
	exitGaveUp   = 3
	exitProtocol = 4
)

// complain writes to standard error. `os.Stderr` is silenced.
func complain(what string) { println("bellwether-render-engine: " + what) }
