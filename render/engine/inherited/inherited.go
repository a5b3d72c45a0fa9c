// Package inherited closes the descriptors that the parent left open.
//
// It has to be early: Go initializes packages in the order of their paths, once those that they import are ready. This
// one imports next to nothing and comes before the libraries, some of which start timers, for which the runtime opens
// descriptors of its own.
package inherited

// Closed is nil once everything but standard input, output and error is closed.
var Closed error
