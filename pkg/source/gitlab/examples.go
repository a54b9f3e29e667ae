package gitlab

import (
	"embed"

	"github.com/riposte-dev/riposte/pkg/source"
)

//go:embed examples
var exampleFiles embed.FS

// examples are made up in the form that the sender documents.
func examples() []source.Example {
	return source.Examples(exampleFiles, func(name string) map[string]string {
		hooks := map[string]string{"push": "Push Hook", "merge_request": "Merge Request Hook", "pipeline": "Pipeline Hook"}
		return map[string]string{typeHeader: hooks[name]}
	})
}
