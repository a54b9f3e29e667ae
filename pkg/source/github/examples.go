package github

import (
	"embed"

	"github.com/riposte-dev/riposte/pkg/source"
)

//go:embed examples
var exampleFiles embed.FS

// examples are made up in the form that the sender documents.
func examples() []source.Example {
	return source.Examples(exampleFiles, func(name string) map[string]string {
		return map[string]string{typeHeader: name}
	})
}
