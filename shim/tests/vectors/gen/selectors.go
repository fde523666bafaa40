package main

import (
	"math/rand/v2"
	"sort"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

type labelCase struct {
	Selector string `json:"selector"`
	// Accepted is whether upstream parses it; all else is empty if not.
	Accepted bool `json:"accepted"`
	// String is upstream's canonical form.
	String string `json:"string"`
	// Requirements are upstream's, each printed in the shim's normal form: = and != for sets of one, plain integers.
	Requirements []string `json:"requirements"`
	// Matches are the indexes of the label sets that match.
	Matches []int `json:"matches"`
}

type fieldCase struct {
	Selector     string             `json:"selector"`
	Accepted     bool               `json:"accepted"`
	String       string             `json:"string"`
	Requirements []fieldRequirement `json:"requirements"`
}

type fieldRequirement struct {
	Field   string `json:"field"`
	Negated bool   `json:"negated"`
	Value   string `json:"value"`
}

var labelSets = []labels.Set{
	{},
	{"a": ""},
	{"a": "b"},
	{"a": "c", "b": "b"},
	{"a": "d", "in": "notin"},
	{"b": "x"},
	{"a": "5"},
	{"a": "-5"},
	{"a": "+7"},
	{"a": "007"},
	{"a": "7"},
	{"a": "5.0"},
	{"a": "9223372036854775807"},
	{"a": "9223372036854775808"},
	{"a": "1_000"},
	{"example.com/a": "b", "a": "b", "b": "", "c": "5"},
	{"A": "b", "in": "", "notin": "x"},
}

var writtenLabelSelectors = []string{
	"", " ", "\t\r\n", "a", "!a", "! a", "a,b", "a,", ",a", ",", "a,,b", "!!a", "!a,!b", "!a=b", "!a in (b)",
	"a=b", "a==b", "a===b", "a!=b", "a!==b", "a=!b", "a = b", "a =b", "a  ==  b", "a\t!=\nb", "a=", "a==", "a!=", "a=,b", "a!=,b",
	"a= ,b", "=b", "==b", "!=b", "a=b=c", "a=b c", "a b", "a=(b)", "a=b)", "(a)", "a in", "a in b", "a in ()", "a in (", "a in )",
	"a in (b)", "a in(b)", "a in ( b )", "a in (b,c)", "a in (c,b,c)", "a in (,)", "a in (,b)", "a in (b,)", "a in (b,,c)", "a in (,,)",
	"a in (b c)", "a in (b),b", "a in (b) b", "a in (b)b", "a in (in)", "a in (in,notin)", "a in (!b)", "a in (b=c)", "a in (b>c)", "a in ((b))",
	"a notin ()", "a notin (b)", "a notin (b,c)", "a notin (,b)", "a not in (b)", "a NOTIN (b)", "a IN (b)", "ain (b)", "a inb (c)",
	"in", "notin", "!in", "in in (in)", "notin notin (notin)", "in=notin", "in,notin", "in (a)", "notin (x)", "a=in", "a!=notin", "a in (a in (b))",
	"a>5", "a<5", "a > 5", "a < 5", "a>=5", "a<=5", "a>", "a<", "a>b", "a>-5", "a>+5", "a>5.0", "a>007", "a<007", "a>0", "a>1_000", "a>5,a<8",
	"a>9223372036854775807", "a<9223372036854775807", "a>9223372036854775806", "a>9223372036854775808", "a<0009223372036854775807", "a>5 6", "a><5",
	"a gt 5", "a lt 5", "a Gt 5", "a>in", "a=b,a=c", "a=b,a!=b", "b,a,b", "b=x,a", "a!=b,a=b", "a,a", "a==b,a=b",
	"example.com/a", "example.com/a=b", "!example.com/a", "Example.com/a", "example..com/a", "-example.com/a", "example.com-/a", "/a", "a/", "a/b/c",
	"example.com/", "ex_ample/a", "1.2.3/a", "a.b-c_d", "-a", "a-", ".a", "a.", "_a", "a_", "A", "0", "a+b", "a*", "a:b", "ä", "a=ä", "a=\u2003b", "\u00a0a",
	"a=b-", "a=-b", "a=b_", "a=B.c-d_e", "a=b/c", "a=\"b\"", "a='b'", "a=b;c", "a=%", "a\\=b", "a=b\\,c", "$a", "{a}", "a[0]",
	"a\x00", "a\x00b", "a\x00,b", "a,\x00b", "a=\x00b", "a==\x00b", "a=b\x00", "\x00a", "a in (\x00b)", "a in \x00(b)", "a !\x00= b", "a \x00= b", "a=b\x00\x00,c",
	strings.Repeat("k", 63), strings.Repeat("k", 64), "a=" + strings.Repeat("v", 63), "a=" + strings.Repeat("v", 64),
	strings.Repeat("p", 253) + "/a", strings.Repeat("p", 254) + "/a", strings.Repeat("p.", 126) + "p/" + strings.Repeat("k", 63),
	"a in (" + strings.Repeat("b,", 300) + "c)", "x in (foo,,baz),y,z notin ()",
}

var writtenFieldSelectors = []string{
	"", ",", ",,", "a", "=", "!=", "==", "a=", "=a", "a=b", "a==b", "a!=b", "a===b", "a=b=c", "a!=b=c", "a!b", "!a", "!a=b", " a = b ", "a=b,c!=d", "c!=d,a=b",
	"a=b,", ",a=b", "a=b,,c=d", "a=b,c", "a=b\\,c", "a=b\\=c", "a=b\\\\", "a=b\\", "a=b\\x", "a=\\,\\=\\\\,b=c", "a\\=b=c", "a\\,b=c", "a\\=b", "a\\", "\\,=a", "a=b\\\\,c=d", "a=b\\\\\\,c=d",
	"a=b,a=b", "a=b,a==b", "a=b,a!=b", "metadata.name=x", "metadata.name=x,metadata.namespace!=y", "spec.color=grün", "spec.a[0]=b", "ä=ö", "a=(b)", "a in (b)", "a=b c", "a>5",
	"a=\x00", "a=\\ä", "a=ä\\,ü", "a!==b", "a!=\\=b", "=,=", "==,a=b", "!=,a=b", "a= ", "\t=\n",
}

// selectors returns the sections of selectors.json.
func selectors() []section {
	random := rand.New(rand.NewPCG(1, 2))
	var labelCases []labelCase
	labelTokens := []string{"a", "b", "in", "notin", "=", "==", "!=", "!", "(", ")", ",", "<", ">", " ", "5", "07", "example.com/a", " in (", " notin (", "a=", ",a", "-"}
	acceptLabel := func(text string) bool { _, err := labels.Parse(text); return err == nil }
	for _, selector := range withRandom(random, writtenLabelSelectors, labelTokens, acceptLabel) {
		labelCases = append(labelCases, labelVector(selector))
	}
	var fieldCases []fieldCase
	fieldTokens := []string{"a", "b", "=", "==", "!=", "!", ",", "\\", "\\,", "\\=", "\\\\", " ", "ä", "a=", ",a!="}
	acceptField := func(text string) bool { _, err := fields.ParseSelector(text); return err == nil }
	for _, selector := range withRandom(random, writtenFieldSelectors, fieldTokens, acceptField) {
		fieldCases = append(fieldCases, fieldVector(selector))
	}
	return []section{newSection("labelSets", labelSets), newSection("label", labelCases), newSection("field", fieldCases)}
}

// withRandom adds random sequences of tokens to the written selectors: 400 that are accepted and 400 that are not.
func withRandom(random *rand.Rand, written, tokens []string, accepted func(string) bool) []string {
	seen := map[string]bool{}
	for _, selector := range written {
		seen[selector] = true
	}
	missing := map[bool]int{false: 400, true: 400}
	for missing[false] > 0 || missing[true] > 0 {
		var selector strings.Builder
		for range 1 + random.IntN(9) {
			selector.WriteString(tokens[random.IntN(len(tokens))])
		}
		text := selector.String()
		if seen[text] {
			continue
		}
		seen[text] = true
		if kind := accepted(text); missing[kind] > 0 {
			missing[kind]--
			written = append(written, text)
		}
	}
	return written
}

func labelVector(selector string) labelCase {
	entry := labelCase{Selector: selector, Requirements: []string{}, Matches: []int{}}
	parsed, err := labels.Parse(selector)
	if err != nil {
		return entry
	}
	entry.Accepted = true
	entry.String = parsed.String()
	requirements, _ := parsed.Requirements()
	for _, requirement := range requirements {
		entry.Requirements = append(entry.Requirements, normal(requirement))
	}
	sort.Strings(entry.Requirements)
	for index, set := range labelSets {
		if parsed.Matches(set) {
			entry.Matches = append(entry.Matches, index)
		}
	}
	return entry
}

func normal(requirement labels.Requirement) string {
	operator, values := requirement.Operator(), requirement.Values().List()
	switch operator {
	case selection.DoubleEquals:
		operator = selection.Equals
	case selection.In:
		if len(values) == 1 {
			operator = selection.Equals
		}
	case selection.NotIn:
		if len(values) == 1 {
			operator = selection.NotEquals
		}
	case selection.GreaterThan, selection.LessThan:
		number, err := strconv.ParseInt(values[0], 10, 64)
		check(err)
		values[0] = strconv.FormatInt(number, 10)
	}
	same, err := labels.NewRequirement(requirement.Key(), operator, values)
	check(err)
	return same.String()
}

func fieldVector(selector string) fieldCase {
	entry := fieldCase{Selector: selector, Requirements: []fieldRequirement{}}
	parsed, err := fields.ParseSelector(selector)
	if err != nil {
		return entry
	}
	entry.Accepted = true
	entry.String = parsed.String()
	for _, requirement := range parsed.Requirements() {
		entry.Requirements = append(entry.Requirements, fieldRequirement{
			Field: requirement.Field, Negated: requirement.Operator == selection.NotEquals, Value: requirement.Value,
		})
	}
	return entry
}
