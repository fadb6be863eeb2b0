//go:build !wasm

// Command archive writes this module as a module proxy serves it, with the generated bindings:
//
//	go run ./internal/archive BINDINGS OUTPUT
//
// BINDINGS is the folder of the bindings that `jackfield build` has written for any handler in Go:
// target/jackfield/NAME/_bindings beside its manifest. It runs in the folder of the module. Then GOPROXY can be
// file://OUTPUT.
package main

import (
	"archive/zip"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

const (
	module  = "jackfield.dev/jackfield"
	version = "v0.1.0"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: go run ./internal/archive BINDINGS OUTPUT")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(bindings, output string) error {
	folder := filepath.Join(output, filepath.FromSlash(module), "@v")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return err
	}
	requirements, err := os.ReadFile("go.mod")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"list":            version + "\n",
		version + ".info": `{"Version":"` + version + `"}`,
		version + ".mod":  string(requirements),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o666); err != nil {
			return err
		}
	}
	file, err := os.Create(filepath.Join(folder, version+".zip"))
	if err != nil {
		return err
	}
	defer file.Close()
	archive := zip.NewWriter(file)
	if err := add(archive, ".", ""); err != nil {
		return err
	}
	if err := add(archive, bindings, "internal/bindings"); err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return file.Close()
}

// add adds the files below a folder, without hidden ones.
func add(archive *zip.Writer, folder, below string) error {
	files := os.DirFS(folder)
	return fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(entry.Name(), ".") && name != ".":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return nil
		}
		content, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		writer, err := archive.Create(path.Join(module+"@"+version, below, name))
		if err != nil {
			return err
		}
		_, err = writer.Write(content)
		return err
	})
}
