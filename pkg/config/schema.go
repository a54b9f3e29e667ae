package config

import (
	"reflect"
	"strings"

	"github.com/riposte-dev/riposte/pkg/consent"
	"github.com/riposte-dev/riposte/pkg/grant"
)

// Schema returns the JSON Schema (draft 7) of the configuration file. It knows the keys and their types; what else must
// hold, Load says.
func Schema() map[string]any {
	root := closed()
	for _, f := range Default().Fields() {
		if f.Key == "" {
			continue
		}
		s := typeSchema(f.Value.Type())
		s["description"] = f.Doc
		put(root, f.Key, s)
	}
	for key, t := range sectionTypes() {
		put(root, key, reflectSchema(t))
	}
	return root
}

// sectionTypes are what the keys of sections hold.
func sectionTypes() map[string]reflect.Type {
	return map[string]reflect.Type{
		"secrets":            reflect.TypeFor[map[string]Secret](),
		"credentials":        reflect.TypeFor[[]Credential](),
		"tokens":             reflect.TypeFor[[]Token](),
		"quietTimes":         reflect.TypeFor[[]QuietTime](),
		"grants":             reflect.TypeFor[grant.List](),
		"approvals":          reflect.TypeFor[consent.Spec](),
		"catchUp.sources":    reflect.TypeFor[[]CatchUpSource](),
		"limits.blastRadius": reflect.TypeFor[[]BlastRadius](),
	}
}

// closed is a mapping that holds nothing else than its properties.
func closed() map[string]any {
	return map[string]any{"type": "object", "additionalProperties": false, "properties": map[string]any{}}
}

// put sets the schema of a key, and makes the mappings above it.
func put(root map[string]any, key string, s map[string]any) {
	name, rest, nested := strings.Cut(key, ".")
	properties := root["properties"].(map[string]any)
	if !nested {
		properties[name] = s
		return
	}
	if properties[name] == nil {
		properties[name] = closed()
	}
	put(properties[name].(map[string]any), rest, s)
}

// typeSchema is that of what Value.Type names.
func typeSchema(name string) map[string]any {
	switch name {
	case "bool":
		return map[string]any{"type": "boolean"}
	case "int":
		return map[string]any{"type": "integer"}
	case "bytes":
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^[0-9]+ ?([kKMGT]i?B|B)?$`}
	case "duration":
		return map[string]any{"type": []string{"string", "integer"}, "pattern": `^(0|([0-9]+(y|w|d|h|ms|m|s))+)$`}
	case "strings", "cidrs":
		return map[string]any{"type": "array", "items": map[string]any{"type": "string"}}
	}
	return map[string]any{"type": "string"}
}

// reflectSchema is that of what encoding/json reads into the type.
func reflectSchema(t reflect.Type) map[string]any {
	switch t.Kind() {
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int:
		return map[string]any{"type": "integer"}
	case reflect.Slice:
		return map[string]any{"type": "array", "items": reflectSchema(t.Elem())}
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": reflectSchema(t.Elem())}
	case reflect.Struct:
		s := closed()
		for field := range t.Fields() {
			name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			put(s, name, reflectSchema(field.Type))
		}
		return s
	}
	return map[string]any{"type": "string"}
}
