package api

import (
	"fmt"
	"net/http"
	"strconv"
)

// explain answers with what each rule made of an event, and what waits.
func (a *api) explain(w http.ResponseWriter, r *http.Request) error {
	all, err := flagOf(r, "all")
	if err != nil {
		return err
	}
	x, err := a.Explain(r.Context(), r.PathValue("id"), all)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, x)
}

func flagOf(r *http.Request, name string) (bool, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, &Error{http.StatusBadRequest, fmt.Sprintf("%s %q is neither true nor false", name, text), ""}
	}
	return b, nil
}
