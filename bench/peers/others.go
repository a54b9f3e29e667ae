package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/vm"
	"github.com/google/cel-go/cel"
	"github.com/open-policy-agent/opa/v1/rego"
)

// peers are other engines with n rules, each with the decoding of the body that it needs.
func peers(n int, body []byte) ([]contender, error) {
	all := []contender{{"encoding/json", func() error { _, err := input(body); return err }}}
	for _, make := range []func(int, []byte) (contender, error){exprAll, celAll, opa} {
		c, err := make(n, body)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// input is the event as a map.
func input(body []byte) (map[string]any, error) {
	var data any
	if err := json.Unmarshal(body, &data); err != nil {
		return nil, err
	}
	return map[string]any{"source": "github", "type": "push", "data": data}, nil
}

func one(fired int) error {
	if fired != 1 {
		return fmt.Errorf("%d rules match, not one", fired)
	}
	return nil
}

func exprAll(n int, body []byte) (contender, error) {
	programs := make([]*vm.Program, n)
	for i := range programs {
		var err error
		if programs[i], err = expr.Compile(condition(i), expr.Env(map[string]any{"event": map[string]any{}}), expr.AsBool()); err != nil {
			return contender{}, err
		}
	}
	return contender{"expr", func() error {
		e, err := input(body)
		if err != nil {
			return err
		}
		env, fired, machine := map[string]any{"event": e}, 0, vm.VM{}
		for _, p := range programs {
			v, err := machine.Run(p, env)
			if err != nil {
				return err
			}
			if v == true {
				fired++
			}
		}
		return one(fired)
	}}, nil
}

func celAll(n int, body []byte) (contender, error) {
	env, err := cel.NewEnv(cel.Variable("event", cel.MapType(cel.StringType, cel.DynType)))
	if err != nil {
		return contender{}, err
	}
	programs := make([]cel.Program, n)
	for i := range programs {
		ast, issues := env.Compile(condition(i))
		if issues.Err() != nil {
			return contender{}, issues.Err()
		}
		if programs[i], err = env.Program(ast); err != nil {
			return contender{}, err
		}
	}
	return contender{"cel-go", func() error {
		e, err := input(body)
		if err != nil {
			return err
		}
		vars, fired := map[string]any{"event": e}, 0
		for _, p := range programs {
			v, _, err := p.Eval(vars)
			if err != nil {
				return err
			}
			if v.Value() == true {
				fired++
			}
		}
		return one(fired)
	}}, nil
}

// opa writes the rules as OPA indexes them: equality of a part of the input with a constant.
func opa(n int, body []byte) (contender, error) {
	var module bytes.Buffer
	module.WriteString("package rules\n\n")
	for i := range n {
		var clauses []string
		for _, c := range conjuncts(i) {
			clauses = append(clauses, fmt.Sprintf("input.%s == %q", c[0], c[1]))
		}
		fmt.Fprintf(&module, "fired contains \"rule-%d\" if { %s }\n", i, strings.Join(clauses, "; "))
	}
	ctx := context.Background()
	query, err := rego.New(rego.Query("data.rules.fired"), rego.Module("rules.rego", module.String())).PrepareForEval(ctx)
	if err != nil {
		return contender{}, err
	}
	return contender{"OPA", func() error {
		e, err := input(body)
		if err != nil {
			return err
		}
		results, err := query.Eval(ctx, rego.EvalInput(e))
		if err != nil {
			return err
		}
		fired, _ := results[0].Expressions[0].Value.([]any)
		return one(len(fired))
	}}, nil
}
