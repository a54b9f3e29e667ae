package source

import (
	"io/fs"
	"path"
	"strings"
)

// Example is a delivery as the sender makes it, for tests of rules: made up, and kept beside the preset.
type Example struct {
	Name    string
	Headers map[string]string // that say what it is; none that prove where it comes from
	Body    []byte
}

// Examples reads the bodies examples/NAME.json of a preset's embedded files. headers may be nil.
func Examples(files fs.FS, headers func(name string) map[string]string) []Example {
	names, err := fs.Glob(files, "examples/*.json")
	if err != nil || len(names) == 0 {
		panic("source: a preset's examples are not embedded") // a mistake of the program
	}
	out := make([]Example, len(names))
	for i, file := range names {
		e := &out[i]
		e.Name = strings.TrimSuffix(path.Base(file), ".json")
		if e.Body, err = fs.ReadFile(files, file); err != nil {
			panic("source: a preset's examples can't be read: " + err.Error())
		}
		if headers != nil {
			e.Headers = headers(e.Name)
		}
	}
	return out
}
