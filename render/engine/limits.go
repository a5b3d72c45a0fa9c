package main

import (
	"fmt"
	"runtime/metrics"
	"time"
)

// limits is what one render may use.
type limits struct {
	deadline    time.Duration
	memoryBytes uint64
	outputBytes int
}

const overLimitHint = "look for a loop in a template, or split the target"

// watchEvery is short enough for a template that repeats itself to be seen before it has filled the machine, and long
// enough to cost nothing.
const watchEvery = 20 * time.Millisecond

// watch calls giveUp once when a render takes more than it may. The function that it gives ends the watch; giveUp does
// not run after that.
func (l limits) watch(giveUp func(*failure)) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		deadline, tick := time.NewTimer(l.deadline), time.NewTicker(watchEvery)
		defer deadline.Stop()
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-deadline.C:
				giveUp(&failure{Code: overLimit, Message: fmt.Sprintf("the render took longer than %s", l.deadline), Hint: overLimitHint})
				return
			case <-tick.C:
				if used := memoryInUse(); used > l.memoryBytes {
					giveUp(l.overMemory(used))
					return
				}
			}
		}
	}()
	return func() {
		close(done)
		<-ended
	}
}

// check looks at what a render gives.
func (l limits) check(documents string) *failure {
	if len(documents) > l.outputBytes || controls(documents)*6 > frameBytesMax-len(documents) {
		return &failure{
			Code:    overLimit,
			Message: fmt.Sprintf("the documents have %d bytes, and %d are allowed", len(documents), l.outputBytes),
			Hint:    overLimitHint,
		}
	}
	return nil
}

// controls counts what takes six bytes in a frame.
func controls(documents string) (count int) {
	for at := range len(documents) {
		if documents[at] < ' ' && documents[at] != '\n' {
			count++
		}
	}
	return count
}

func (l limits) overMemory(used uint64) *failure {
	return &failure{
		Code:    overLimit,
		Message: fmt.Sprintf("the render needed %d MiB of memory, and %d are allowed", used>>20, l.memoryBytes>>20),
		Hint:    overLimitHint,
	}
}

// memoryInUse is what Go has of the system, and has not given back.
func memoryInUse() uint64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}
