//! The engine on a tiny upstream: real folders, a real repository, a real series.

mod cycle;
mod drift;
mod interrupted;
mod rebase;
mod rejects;
mod review;
mod round_trip;
mod squash;
mod stats;

use std::path::PathBuf;
use tempfile::TempDir;

use super::file::Patch;
use super::series::Series;
use super::tree::WorkTree;
use crate::pipeline::Fetched;
use crate::source::Target;
use sluice_shell::context::Context;
use sluice_shell::minor::Minor;

const PINS: &str = "[kubernetes]\nversion = \"v1.37.2\"\nsum = \"h1:x\"\ngo = \"1.26.0\"\n\
    time = \"2026-10-27T12:01:04Z\"\n[sluice]\nrevision = 1\n";

/// What upstream is before the patches: path, content.
const UPSTREAM: &[(&str, &str)] = &[
    ("go.mod", GO_MOD),
    ("go.sum", ""),
    ("cmd/tiny/main.go", "package main\n\nfunc main() {}\n"),
    ("staging/src/k8s.io/api/go.mod", "module k8s.io/api\n\ngo 1.24\n"),
    ("staging/src/k8s.io/api/doc.go", "package api\n"),
    (".gitattributes", "* text=auto eol=lf\n*.bin diff=hex\n"),
    ("pkg/store/store.go", STORE),
    ("pkg/store/list.go", "package store\n\n// All lists.\nfunc All() []string {\n\treturn nil\n}\n"),
    ("docs/windows.txt", "one\r\ntwo\r\nthree\r\n"),
    ("docs/open-end.txt", "first\nlast"),
    ("docs/superfluous.txt", "go away\n"),
    ("hack/run.sh", "#!/bin/sh\nexit 0\n"),
];

const GO_MOD: &str = "module example.com/tiny\n\ngo 1.24\n\nrequire k8s.io/api v0.0.0\n\n\
    replace k8s.io/api => ./staging/src/k8s.io/api\n";

const STORE: &str = "\
package store

import \"errors\"

// ErrGone says that there is nothing.
var ErrGone = errors.New(\"gone\")

type store struct {
	keys map[string]string
	size int
}

// Get returns one value.
func (s *store) Get(key string) (string, error) {
	value, ok := s.keys[key]
	if !ok {
		return \"\", ErrGone
	}
	return value, nil
}

// Put keeps one value.
func (s *store) Put(key, value string) {
	if s.keys == nil {
		s.keys = map[string]string{}
	}
	s.keys[key] = value
	s.size++
}
";

/// A workspace with a composed tree of [`UPSTREAM`] and an empty series.
struct Tiny {
    dir: TempDir,
    shell: Context,
    fetched: Fetched,
}

impl Tiny {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        for (path, text) in UPSTREAM {
            write(&format!("upstream/{path}"), text);
        }
        write("patches/contract.toml", "");
        write("patches/v1.37/source.toml", PINS);
        write("patches/v1.37/series", "# The order.\n");
        let shell = Context::for_test(dir.path());
        let origin = format!("path:{}", dir.path().join("upstream").display());
        let target = Target { k8s: minor(), source: origin.parse().unwrap() };
        let fetched = target.open(&shell).unwrap();
        Self { dir, shell, fetched }
    }

    fn series(&self) -> Series {
        Series::load(&self.folder()).unwrap()
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("patches/v1.37")
    }

    fn tree(&self) -> WorkTree {
        WorkTree::open(&self.shell, &self.fetched).unwrap()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.fetched.tree.join(path)
    }

    fn read(&self, path: &str) -> String {
        fs_err::read_to_string(self.path(path)).unwrap()
    }

    /// With three patches of list.go and store.go.
    fn with_three() -> Self {
        let tiny = Self::new();
        tiny.replace("pkg/store/list.go", "return nil", "return []string{}");
        tiny.add("store: empty list");
        tiny.replace("pkg/store/store.go", "value, ok := s.keys[key]", "value, ok := s.keys[clean(key)]");
        tiny.write("pkg/store/clean.go", "package store\n\nfunc clean(key string) string { return key }\n");
        tiny.add("store: clean keys");
        tiny.replace("pkg/store/store.go", "s.size++", "s.size = len(s.keys)");
        tiny.add("store: count keys");
        tiny
    }

    fn write(&self, path: &str, text: &str) {
        fs_err::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs_err::write(self.path(path), text).unwrap();
    }

    fn replace(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "{path} has no {from:?}");
        self.write(path, &text.replace(from, to));
    }

    /// Makes a patch of the edits, with a complete header, and applies the series.
    fn add(&self, subject: &str) -> String {
        let name = super::new::add(&self.tree(), &self.series(), subject).unwrap();
        let path = self.folder().join(&name);
        let mut patch = Patch::parse(&fs_err::read(&path).unwrap()).unwrap();
        patch.body = format!(
            "Because {subject}.\n\nNot upstreamable: it is only an example\nDiffers-From-Upstream: adds\n  \
             things\nDrop-When: v1.99\nTest: ./pkg/store/... ./staging/src/k8s.io/api/..."
        );
        fs_err::write(&path, patch.to_bytes()).unwrap();
        super::apply::bring_tree(&self.tree(), &self.series(), false).unwrap();
        name
    }

    /// Every file of the series folder.
    fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = fs_err::read_dir(self.folder())
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), fs_err::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        files
    }
}

fn minor() -> Minor {
    "v1.37".parse().unwrap()
}
