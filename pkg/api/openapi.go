package api

import (
	"encoding/json"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/riposte-dev/riposte/pkg/explain"
	"github.com/riposte-dev/riposte/pkg/run"
)

// operation is one request that the API answers: the routes and the OpenAPI document are made from the same list.
type operation struct {
	method, path, id, summary string
	role                      Role
	query                     []string // names of parameters
	status                    int
	answer                    any // zero value of what is answered as JSON, or as lines of it; nil for another type
	handle                    handler
	lines                     bool // the answer is any number of lines
	body                      any  // zero value of what is sent as JSON; nil for nothing
	also                      int  // a second status of success with the same answer; 0 for none
}

func (a *api) operations() []operation {
	get, post, ok, taken := http.MethodGet, http.MethodPost, http.StatusOK, http.StatusAccepted
	return []operation{
		{get, "/api/v1/openapi.json", "describe", "This document", Viewer, nil, ok, map[string]any{}, a.openapi, false, nil, 0},
		{get, "/api/v1/version", "getVersion", "Version of the server", Viewer, nil, ok, Version{}, a.version, false, nil, 0},
		{get, "/api/v1/events", "listEvents", "List events, newest first", Viewer, []string{"source", "type", "since", "limit", "cursor"}, ok, List[Event]{}, a.listEvents, false, nil, 0},
		{get, "/api/v1/events/{id}", "getEvent", "One event and what was decided about it; the id can be shortened", Viewer, nil, ok, Event{}, a.getEvent, false, nil, 0},
		{get, "/api/v1/events/{id}/explain", "explainEvent", "What each rule made of the event, clause by clause, and what waits in windows; the id can be shortened", Viewer, []string{"all"}, ok, explain.Explanation{}, a.explain, false, nil, 0},
		{post, "/api/v1/events/{id}/replay", "replayEvent", "Append the event again under a new id", Operator, nil, taken, Named{}, a.replay, false, nil, 0},
		{get, "/api/v1/runs", "listRuns", "List runs, newest first, without their steps", Viewer, []string{"rule", "event", "state", "limit", "cursor"}, ok, List[Run]{}, a.listRuns, false, nil, 0},
		{get, "/api/v1/runs/{id}", "getRun", "One run with its steps; the id can be shortened", Viewer, nil, ok, Run{}, a.getRun, false, nil, 0},
		{get, "/api/v1/runs/{id}/logs", "getRunLogs", "What the run's steps had to say, part by part, as lines of JSON; the trailer Riposte-Logs says whether that is all", Viewer, []string{"follow", "step"}, ok, LogChunk{}, a.logs, true, nil, 0},
		{post, "/api/v1/runs/{id}/cancel", "cancelRun", "Stop a run", Operator, nil, taken, Named{}, a.cancel, false, nil, 0},
		{post, "/api/v1/runs/{id}/retry", "retryRun", "Let a run that ended go on from the steps that did not succeed", Operator, nil, taken, Named{}, a.retry, false, nil, 0},
		{post, "/api/v1/runs/{id}/approve", "approveRun", "Agree to what a run waits for; 202 where the run had not heard of it within some seconds", Operator, nil, ok, ConsentAnswer{}, a.approve, false, ConsentRequest{}, taken},
		{post, "/api/v1/runs/{id}/reject", "rejectRun", "Refuse what a run waits for, which ends it; 202 where the run had not heard of it within some seconds", Operator, nil, ok, ConsentAnswer{}, a.reject, false, ConsentRequest{}, taken},
		{get, "/api/v1/rules", "listRules", "The active rules, and why newer ones are not active", Viewer, nil, ok, RuleSet{}, a.listRules, false, nil, 0},
		{post, "/api/v1/rules/{name}/run", "runRule", "Run a rule without asking for its trigger and condition", Operator, nil, taken, Started{}, a.runRule, false, StartRequest{}, 0},
		{post, "/api/v1/workflows/{name}/run", "runWorkflow", "Run a workflow", Operator, nil, taken, Started{}, a.runWorkflow, false, StartRequest{}, 0},
		{post, "/api/v1/pause", "pause", "Let a rule, or all, start no runs; those that would be are recorded as refused. The answer is what people paused", Operator, nil, ok, List[Pause]{}, a.pause, false, PauseRequest{}, 0},
		{post, "/api/v1/resume", "resume", "Let a rule that was paused, or all, go on. The answer is what stays paused", Operator, nil, ok, List[Pause]{}, a.resume, false, ResumeRequest{}, 0},
		{get, "/api/v1/sources", "listSources", "The sources and what keeps one from receiving", Viewer, nil, ok, List[Source]{}, a.listSources, false, nil, 0},
		{get, "/api/v1/audit", "listAudit", "What was ordered, refused and decided, oldest first; a page can be short and not be the last", Admin, []string{"since", "limit", "cursor"}, ok, List[AuditEntry]{}, a.listAudit, false, nil, 0},
		{post, "/api/v1/backup", "backup", "A consistent copy of the embedded store, as a tar stream; the trailer Riposte-Backup says whether it is complete", Admin, nil, ok, nil, a.backup, false, nil, 0},
	}
}

// parameters describes the parameters of queries by name.
func parameters() map[string]map[string]any {
	text := func(doc string) map[string]any {
		return map[string]any{"description": doc, "schema": map[string]any{"type": "string"}}
	}
	return map[string]map[string]any{
		"source": text("only of this source"),
		"type":   text("only of this type"),
		"since":  text("only since this time (2006-01-02T15:04:05Z), or for this long (90s, 1h30m, 1d)"),
		"rule":   text("only of this rule"),
		"event":  text("only those that the event with this whole id started"),
		"step":   text("only of the step with this id"),
		"follow": {"description": "go on until the run has ended", "schema": map[string]any{"type": "boolean", "default": false}},
		"cursor": text("next of the page before"),
		"all":    {"description": "also the rules whose trigger does not select the event", "schema": map[string]any{"type": "boolean", "default": false}},
		"state":  {"description": "only in this state", "schema": map[string]any{"type": "string", "enum": states()}},
		"limit":  {"description": "at most so many", "schema": map[string]any{"type": "integer", "minimum": 1, "maximum": maxLimit, "default": defaultLimit}},
	}
}

// states lists the states of a run.
func states() []run.State {
	return []run.State{
		run.Pending, run.Running, run.Waiting, run.Verifying, run.Succeeded, run.Failed, run.Cancelled, run.Refused, run.Superseded, run.Observed,
	}
}

func (a *api) openapi(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, a.document())
}

// document is the OpenAPI document.
func (a *api) document() map[string]any {
	s := schemas{}
	s.of(reflect.TypeFor[Failure]())
	paths := map[string]map[string]any{}
	for _, op := range a.operations() {
		if paths[op.path] == nil {
			paths[op.path] = map[string]any{}
		}
		paths[op.path][strings.ToLower(op.method)] = op.document(s)
	}
	return map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "Riposte", "version": a.Version,
			"description": "Lists are pages: next is the cursor of the one after it. Every answer other than success is a Failure.",
		},
		"paths": paths,
		"components": map[string]any{
			"securitySchemes": map[string]any{"bearer": map[string]any{"type": "http", "scheme": "bearer"}},
			"schemas":         s,
		},
		"security": []any{map[string]any{"bearer": []string{}}},
	}
}

func (op operation) document(s schemas) map[string]any {
	params := []any{}
	for _, name := range op.query {
		p := maps.Clone(parameters()[name])
		p["name"], p["in"] = name, "query"
		params = append(params, p)
	}
	for _, name := range []string{"id", "name"} {
		if strings.Contains(op.path, "{"+name+"}") {
			params = append(params, map[string]any{"name": name, "in": "path", "required": true, "schema": map[string]any{"type": "string"}})
		}
	}
	content := map[string]any{"application/x-tar": map[string]any{"schema": map[string]any{"type": "string", "format": "binary"}}}
	if op.answer != nil {
		content = map[string]any{"application/json": map[string]any{"schema": s.of(reflect.TypeOf(op.answer))}}
	}
	if op.lines {
		content = map[string]any{jsonLines: map[string]any{"schema": s.of(reflect.TypeOf(op.answer))}}
	}
	failure := map[string]any{"application/json": map[string]any{"schema": s.of(reflect.TypeFor[Failure]())}}
	out := map[string]any{
		"operationId": op.id,
		"summary":     op.summary + ". Needs the role " + op.role.String() + ".",
		"parameters":  params,
		"responses": map[string]any{
			strconv.Itoa(op.status): map[string]any{"description": http.StatusText(op.status), "content": content},
			"default":               map[string]any{"description": "Why not", "content": failure},
		},
	}
	if op.also != 0 {
		out["responses"].(map[string]any)[strconv.Itoa(op.also)] = map[string]any{"description": http.StatusText(op.also), "content": content}
	}
	if op.body != nil {
		out["requestBody"] = map[string]any{"content": map[string]any{"application/json": map[string]any{"schema": s.of(reflect.TypeOf(op.body))}}}
	}
	return out
}

// schemas are the JSON Schemas of structs by name, made from the types that are marshalled.
type schemas map[string]any

func (s schemas) of(t reflect.Type) map[string]any {
	switch t {
	case reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case reflect.TypeFor[json.RawMessage]():
		return map[string]any{}
	case reflect.TypeFor[run.State]():
		return map[string]any{"type": "string", "enum": states()}
	case reflect.TypeFor[explain.State]():
		return map[string]any{"type": "string", "enum": explain.States()}
	case reflect.TypeFor[explain.Result]():
		return map[string]any{"type": "string", "enum": explain.Results()}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return map[string]any{"anyOf": []any{s.of(t.Elem()), map[string]any{"type": "null"}}}
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Struct:
		return s.ref(t)
	}
	return map[string]any{} // any value
}

// ref describes a struct under its name, and returns a reference to it.
func (s schemas) ref(t reflect.Type) map[string]any {
	name := nameOf(t)
	ref := map[string]any{"$ref": "#/components/schemas/" + name}
	if s[name] != nil {
		return ref
	}
	props, required := map[string]any{}, []string{}
	s[name] = map[string]any{} // ends a recursion
	for i := range t.NumField() {
		f := t.Field(i)
		key, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		props[key] = s.of(f.Type)
		if options == "" {
			required = append(required, key)
		}
	}
	slices.Sort(required)
	s[name] = map[string]any{"type": "object", "properties": props, "required": required}
	return ref
}

// nameOf names a type in the document: List[…/api.Run] is RunList.
func nameOf(t reflect.Type) string {
	name, of, generic := strings.Cut(strings.TrimSuffix(t.Name(), "]"), "[")
	if !generic {
		return name
	}
	return of[strings.LastIndexByte(of, '.')+1:] + name
}
