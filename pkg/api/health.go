package api

import (
	"fmt"
	"net/http"
	"sort"
)

// Check is one thing that must be well for the server to be ready; nil means it is.
type Check func() error

// Health returns the health listener's handler: /healthz answers while the process can, /readyz says which checks fail,
// and metrics serves /metrics. What notes returns is told by /readyz beside them: it is no reason not to be ready. It carries
// no secrets.
func Health(checks map[string]Check, notes func() []string, metrics http.Handler) http.Handler {
	names := make([]string, 0, len(checks))
	for name := range checks {
		names = append(names, name)
	}
	sort.Strings(names)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		text, status := "", http.StatusOK
		for _, name := range names {
			if err := checks[name](); err != nil {
				text, status = text+fmt.Sprintf("[-] %s: %v\n", name, err), http.StatusServiceUnavailable
				continue
			}
			text += fmt.Sprintf("[+] %s\n", name)
		}
		for _, note := range notes() {
			text += "[!] " + note + "\n"
		}
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	})
	mux.Handle("GET /metrics", metrics)
	return mux
}
