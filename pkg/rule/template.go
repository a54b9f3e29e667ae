package rule

import (
	"context"
	"fmt"
	"reflect"

	"github.com/riposte-dev/riposte/pkg/action"
	"github.com/riposte-dev/riposte/pkg/document"
	"github.com/riposte-dev/riposte/pkg/expression"
)

// template is a value of `with` whose texts can hold expressions.
type template struct {
	literal any
	text    *expression.Template
	quote   func(before, value string) (string, error) // how values stand in the text; nil as they are
	members map[string]*template
	list    []*template
	// optional says of a member that it is left out where it is null.
	optional bool
}

// eval evaluates the whole value. With render, an absent field in a text is printed as its path instead of an error.
func (t *template) eval(ctx context.Context, scope *expression.Scope, render bool) (any, error) {
	switch {
	case t == nil:
		return map[string]any{}, nil
	case t.quote != nil: // what is absent or refused must not be replaced by a text, which would mean something else there
		return t.text.EvalQuoted(ctx, scope, t.quote)
	case t.text != nil:
		v, err := t.text.Eval(ctx, scope)
		if err != nil && render {
			return t.text.Render(ctx, scope), nil
		}
		return v, err
	case t.members != nil:
		out := make(map[string]any, len(t.members))
		for name, m := range t.members {
			v, err := m.eval(ctx, scope, render)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if v != nil || !m.optional {
				out[name] = v
			}
		}
		return out, nil
	case t.list != nil:
		out := make([]any, len(t.list))
		for i, m := range t.list {
			v, err := m.eval(ctx, scope, render)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			out[i] = v
		}
		return out, nil
	}
	return t.literal, nil
}

// quoted sets how values stand in the texts of the whole value.
func (t *template) quoted(quote func(before, value string) (string, error)) {
	if t.text != nil {
		t.quote = quote
	}
	for _, m := range t.members {
		m.quoted(quote)
	}
	for _, m := range t.list {
		m.quoted(quote)
	}
}

// decodeParams reads evaluated parameters, which are plain values, into the action's struct.
func decodeParams(def action.Definition, value map[string]any) (any, error) {
	params := reflect.New(reflect.TypeOf(def.Params).Elem())
	reflect.Indirect(params).Set(reflect.ValueOf(def.Params).Elem())
	if value == nil {
		value = map[string]any{}
	}
	if err := document.DecodeValue(value, params.Interface()); err != nil {
		return nil, fmt.Errorf("parameters of %s: %w", def.Name, err)
	}
	return params.Interface(), nil
}

// plain turns what expressions can yield into plain values: objects become maps.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = plain(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = plain(e)
		}
		return out
	case expression.Object:
		out := map[string]any{}
		for _, name := range v.Fields() {
			e, _ := v.Field(name)
			out[name] = plain(e)
		}
		return out
	case int:
		return int64(v)
	}
	return v
}
