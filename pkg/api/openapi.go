package api

import (
	"net/http"
	"strings"
)

// operation documents one path of the API; the OpenAPI document is made from the list.
type operation struct {
	method, path, summary string
	role                  string
	query                 []string
	status                string
}

func operations() []operation {
	return []operation{
		{"get", "/api/v1/version", "Version of the server", "viewer", nil, "200"},
		{"get", "/api/v1/events", "List events, newest first", "viewer", []string{"source", "type", "since", "limit", "cursor"}, "200"},
		{"get", "/api/v1/events/{id}", "One event and what was decided about it; the id can be shortened", "viewer", nil, "200"},
		{"post", "/api/v1/events/{id}/replay", "Append the event again under a new id", "operator", nil, "202"},
		{"get", "/api/v1/runs", "List runs, newest first", "viewer", []string{"rule", "event", "state", "limit", "cursor"}, "200"},
		{"get", "/api/v1/runs/{id}", "One run with its steps", "viewer", nil, "200"},
		{"post", "/api/v1/runs/{id}/cancel", "Stop a run", "operator", nil, "202"},
		{"post", "/api/v1/runs/{id}/retry", "Let a run that ended go on from the steps that did not succeed", "operator", nil, "202"},
		{"get", "/api/v1/rules", "The active rules, and why newer ones are not active", "viewer", nil, "200"},
		{"get", "/api/v1/sources", "The sources and what keeps one from receiving", "viewer", nil, "200"},
		{"post", "/api/v1/backup", "A consistent copy of the embedded store, as a tar stream; the trailer Riposte-Backup says whether it is complete", "admin", nil, "200"},
	}
}

func (a *api) openapi(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, OpenAPI(a.Version))
}

// OpenAPI returns the document that describes the API.
func OpenAPI(version string) map[string]any {
	paths := map[string]map[string]any{}
	for _, op := range operations() {
		if paths[op.path] == nil {
			paths[op.path] = map[string]any{}
		}
		paths[op.path][op.method] = op.document()
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info":    map[string]any{"title": "Riposte", "version": version},
		"paths":   paths,
		"components": map[string]any{
			"securitySchemes": map[string]any{"bearer": map[string]any{"type": "http", "scheme": "bearer"}},
			"schemas": map[string]any{"Error": map[string]any{
				"type": "object", "required": []string{"error"},
				"properties": map[string]any{"error": map[string]any{"type": "string"}, "hint": map[string]any{"type": "string"}},
			}},
		},
		"security": []any{map[string]any{"bearer": []string{}}},
	}
}

func (op operation) document() map[string]any {
	failure := map[string]any{"description": "why not", "content": map[string]any{
		"application/json": map[string]any{"schema": map[string]any{"$ref": "#/components/schemas/Error"}}}}
	var params []any
	for _, name := range op.query {
		params = append(params, map[string]any{"name": name, "in": "query", "schema": map[string]any{"type": "string"}})
	}
	if strings.Contains(op.path, "{id}") {
		params = append(params, map[string]any{"name": "id", "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
	}
	doc := map[string]any{
		"summary":   op.summary + ". Needs the role " + op.role + ".",
		"responses": map[string]any{op.status: map[string]any{"description": "done"}, "default": failure},
	}
	if params != nil {
		doc["parameters"] = params
	}
	return doc
}
