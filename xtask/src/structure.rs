//! Which files of a crate use which: a test that circles of files stay small.
//!
//! A file is a module; `crate::a::b`, `super::b` and `self::b` in it, outside `#[cfg(test)]`, are its uses.
//! Files that use each other, directly or through others, form a circle: nobody can understand, test or
//! replace one without the rest.

use crate::paths;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The largest circle that a crate may have, in files.
const LARGEST: usize = 3;
/// Crates with larger ones, which may only become smaller.
const LARGER: [(&str, usize); 2] = [("hv-core", 20), ("lwk-core", 17)];

/// The files of a crate by module path, `a::b`; the crate's root is the empty path.
fn modules(src: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![(src.to_owned(), String::new())];
    while let Some((dir, within)) = dirs.pop() {
        for path in fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()) {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let name = if within.is_empty() { stem.clone() } else { format!("{within}::{stem}") };
            if path.is_dir() {
                dirs.push((path, name));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = match stem.as_str() {
                    "lib" | "main" if within.is_empty() => String::new(),
                    "mod" => within.clone(),
                    _ => name,
                };
                found.insert(module, fs::read_to_string(&path).unwrap());
            }
        }
    }
    found.retain(|module, _| !module.split("::").any(|part| part == "tests" || part == "testing"));
    found
}

/// The paths that `text`, the file of `module`, uses within its crate.
fn uses(module: &str, text: &str) -> Vec<String> {
    let code: String = text
        .split("\n#[cfg(test)]\nmod tests {")
        .next()
        .unwrap_or_default()
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = Vec::new();
    for (word, base) in [("crate::", ""), ("super::", parent), ("self::", module)] {
        let mut rest = code.as_str();
        while let Some(at) = rest.find(word) {
            let before = rest[..at].chars().next_back();
            rest = &rest[at + word.len()..];
            if before.is_none_or(|c| !(c.is_alphanumeric() || c == '_' || c == ':' || c == '$')) {
                found.extend(paths_in(rest).into_iter().map(|path| join(base, &path)));
            }
        }
    }
    found
}

fn join(base: &str, path: &str) -> String {
    if base.is_empty() { path.to_owned() } else { format!("{base}::{path}") }
}

/// The paths at the beginning of `text`: one, or those of a list in braces.
fn paths_in(text: &str) -> Vec<String> {
    let name = |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
    if let Some(list) = text.strip_prefix('{') {
        let (mut depth, mut item, mut items) = (1, String::new(), Vec::new());
        for c in list.chars() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 || (depth == 1 && c == ',') {
                items.push(std::mem::take(&mut item));
                if depth == 0 {
                    break;
                }
            } else {
                item.push(c);
            }
        }
        return items.iter().flat_map(|item| paths_in(item.trim())).collect();
    }
    let end = name(text);
    let head = &text[..end];
    match text[end..].strip_prefix("::") {
        Some(rest) => paths_in(rest).into_iter().map(|path| join(head, &path)).collect(),
        None => vec![head.to_owned()],
    }
}

/// Which modules each module uses: a path is its longest beginning that is a file. What leads to the crate's
/// root is left out.
fn graph(modules: &BTreeMap<String, String>) -> BTreeMap<&str, BTreeSet<&str>> {
    let file_of = |path: &str| {
        let mut path = path;
        loop {
            if let Some((module, _)) = modules.get_key_value(path) {
                return Some(module.as_str());
            }
            path = path.rsplit_once("::")?.0;
        }
    };
    let used = |module: &str, text: &str| {
        let used = uses(module, text);
        used.iter()
            .filter_map(|path| file_of(path))
            .filter(|used| *used != module && !used.is_empty())
            .collect()
    };
    modules.iter().map(|(module, text)| (module.as_str(), used(module, text))).collect()
}

/// The circles of a graph, each as the set of its members; single modules are none.
fn circles<'a>(graph: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> Vec<BTreeSet<&'a str>> {
    let reachable = |from: &'a str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            for used in graph.get(module).into_iter().flatten() {
                if seen.insert(*used) {
                    next.push(used);
                }
            }
        }
        seen
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> =
        graph.keys().map(|module| (*module, reachable(module))).collect();
    let mut found: Vec<BTreeSet<&str>> = Vec::new();
    for (module, all) in &reach {
        if all.contains(module) && !found.iter().any(|circle| circle.contains(module)) {
            found.push(all.iter().copied().filter(|other| reach[other].contains(module)).collect());
        }
    }
    found
}

#[test]
fn reads_paths_and_lists_of_paths() {
    let text = "use crate::{a::{self, B}, c};\nuse super::d::E;\nfn f() { crate::g::h() } // crate::no\n";
    assert_eq!(uses("x::y", text), ["a::self", "a::B", "c", "g::h", "x::d::E"]);
}

#[test]
fn finds_circles() {
    let modules =
        [("a", "use crate::b;"), ("b", "use crate::c::X;"), ("c", "use crate::a;"), ("d", "use crate::a;")];
    let modules = modules.map(|(module, text)| (module.to_owned(), text.to_owned())).into();
    assert_eq!(circles(&graph(&modules)), [BTreeSet::from(["a", "b", "c"])]);
}

#[test]
fn circles_of_files_are_small() {
    let mut faults = Vec::new();
    for dir in fs::read_dir(paths::root().join("crates")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = dir.file_name().unwrap().to_string_lossy().into_owned();
        let largest = LARGER.iter().find(|(larger, _)| *larger == name).map_or(LARGEST, |(_, size)| *size);
        let modules = modules(&dir.join("src"));
        for circle in circles(&graph(&modules)).into_iter().filter(|circle| circle.len() > largest) {
            faults.push(format!(
                "{name}: {} files in a circle, {largest} are allowed: {circle:?}",
                circle.len()
            ));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
