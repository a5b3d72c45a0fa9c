package main

// failure tells a person why there are no documents.
type failure struct {
	// Code is stable; programs may compare it.
	Code    string `json:"code"`
	Message string `json:"message"`
	// File is relative to the repository's root.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	Hint string `json:"hint,omitempty"`
	// LookedAt is what of its cluster the chart has looked at before.
	LookedAt []string `json:"lookedAt,omitempty"`
	// Secrets are what was frozen before, for the parent to hide it in what this says.
	Secrets []string `json:"secrets,omitempty"`
}

const (
	badRequest           = "bad_request"
	enginePanicked       = "engine_panicked"
	overLimit            = "over_limit"
	fileRefused          = "file_refused"
	outsideRepository    = "outside_repository"
	kustomizeFailed      = "kustomize_failed"
	kustomizeUnsupported = "kustomize_unsupported"
	helmFailed           = "helm_failed"
	helmSchema           = "helm_schema"
	helmLookup           = "helm_lookup"
	helmDependency       = "helm_dependency"
	helmVolatile         = "helm_volatile"
)

func (f *failure) Error() string { return f.Message }
