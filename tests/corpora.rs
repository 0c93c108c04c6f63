//! Feeds every parser with the corpora that the fuzzer has found and with random bytes, on a stable toolchain.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::{fs, path::Path};

use fuzz::ENTRIES;
use proptest::{collection::vec, prelude::*, sample::Index, test_runner::TestRunner};

/// Every file of the corpus of `name`, the biggest last.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut files: Vec<_> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    files.sort_by_key(Vec::len);
    files
}

/// Runs `run` for each parser, on all cores; a panic names the parser.
fn for_each_parser(run: impl Fn(&str, fn(&[u8])) + Sync) {
    let run = &run;
    std::thread::scope(|scope| {
        for &(name, parse) in ENTRIES {
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn_scoped(scope, move || run(name, parse)).unwrap();
        }
    });
}

#[test]
fn every_file_of_the_corpora_is_read_or_refused() {
    for_each_parser(|name, parse| {
        let files = corpus(name);
        assert!(files.len() >= 5, "the corpus of {name} has only {} files", files.len());
        files.iter().for_each(|file| parse(file));
    });
}

#[test]
fn there_is_a_fuzz_target_for_every_parser() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    for (name, _) in ENTRIES {
        let target = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("kes_fuzz::{name}(data)")), "{name}: {target}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
    assert_eq!(fs::read_dir(root.join("fuzz_targets")).unwrap().count(), ENTRIES.len());
    assert_eq!(fs::read_dir(root.join("corpus")).unwrap().count(), ENTRIES.len());
}

/// A change to a file: bytes written over others, bytes put in, a piece taken out or doubled.
#[derive(Clone, Debug)]
enum Edit {
    Replace(Index, Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize),
}

impl Edit {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            (any::<Index>(), vec(any::<u8>(), 1..5)).prop_map(|(at, bytes)| Self::Replace(at, bytes)),
            (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            (any::<Index>(), 1_usize..64).prop_map(|(at, length)| Self::Remove(at, length)),
            (any::<Index>(), 1_usize..64).prop_map(|(at, length)| Self::Repeat(at, length)),
        ]
    }

    fn apply(&self, file: &mut Vec<u8>) {
        let range = |at: &Index, length: usize| {
            let start = at.index(file.len() + 1);
            start..(start + length).min(file.len())
        };
        match self {
            Self::Replace(at, bytes) => drop(file.splice(range(at, bytes.len()), bytes.iter().copied())),
            Self::Insert(at, bytes) => drop(file.splice(range(at, 0), bytes.iter().copied())),
            Self::Remove(at, length) => drop(file.drain(range(at, *length))),
            Self::Repeat(at, length) => {
                let range = range(at, *length);
                let piece = file[range.clone()].to_vec();
                file.splice(range.end..range.end, piece);
            }
        }
    }
}

#[test]
fn edited_files_of_the_corpora_are_read_or_refused() {
    for_each_parser(|name, parse| {
        let files = corpus(name);
        let input = (any::<Index>(), vec(Edit::any(), 1..4));
        let mut runner = TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
        let result = runner.run(&input, |(file, edits)| {
            let mut file = files[file.index(files.len())].clone();
            edits.iter().for_each(|edit| edit.apply(&mut file));
            parse(&file);
            Ok(())
        });
        assert!(result.is_ok(), "{name}: {}", result.unwrap_err());
    });
}

#[test]
fn random_bytes_are_read_or_refused() {
    for_each_parser(|_, parse| {
        let mut runner = TestRunner::new(ProptestConfig { cases: 400, ..ProptestConfig::default() });
        runner
            .run(&vec(any::<u8>(), 0..300), |bytes| {
                parse(&bytes);
                Ok(())
            })
            .unwrap();
    });
}
