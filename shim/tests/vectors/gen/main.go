// Command gen writes what upstream's apimachinery makes of selectors and of stored objects to selectors.json and
// objects.json in the folder that is its argument. The shim's tests compare themselves with these files.
//
//	cd shim/tests/vectors/gen && go run . ..
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: gen FOLDER")
	}
	write(filepath.Join(os.Args[1], "selectors.json"), selectors()...)
	write(filepath.Join(os.Args[1], "objects.json"), objects())
}

// section is a named list of a file.
type section struct {
	name    string
	entries []any
}

func newSection[T any](name string, entries []T) section {
	result := section{name: name}
	for _, entry := range entries {
		result.entries = append(result.entries, entry)
	}
	return result
}

// write makes a JSON object of the sections with one entry a line.
func write(path string, sections ...section) {
	var text bytes.Buffer
	separator := "{"
	for _, section := range sections {
		fmt.Fprintf(&text, "%s\n%q: [", separator, section.name)
		separator = "],"
		for index, entry := range section.entries {
			line, err := json.Marshal(entry)
			check(err)
			if index > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, "\n%s", line)
		}
	}
	text.WriteString("]\n}\n")
	check(os.WriteFile(path, text.Bytes(), 0o644))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
