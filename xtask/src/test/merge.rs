//! Cases of a scenario: what a `[[case]]` says replaces what its file says.

use toml::{Table, Value};

/// `base` with `over` on top. Tables are merged key by key; lists of tables that have a `name` are merged by
/// name, and what is new is appended; everything else is replaced.
pub fn merge(base: &Table, over: &Table) -> Table {
    let mut merged = base.clone();
    for (key, value) in over {
        let value = match (merged.get(key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => Value::Table(merge(old, new)),
            (Some(Value::Array(old)), Value::Array(new)) => Value::Array(merge_lists(old, new)),
            _ => value.clone(),
        };
        merged.insert(key.clone(), value);
    }
    merged
}

fn merge_lists(old: &[Value], new: &[Value]) -> Vec<Value> {
    if !new.iter().chain(old).all(|value| name(value).is_some()) {
        return new.to_vec();
    }
    let mut merged = old.to_vec();
    for value in new {
        match (merged.iter_mut().find(|old| name(old) == name(value)), value) {
            (Some(Value::Table(old)), Value::Table(new)) => *old = merge(old, new),
            _ => merged.push(value.clone()),
        }
    }
    merged
}

fn name(value: &Value) -> Option<&str> {
    value.get("name")?.as_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_case_replaces_and_refines() {
        let base = table(
            "cores = 4\nlist = [1]\n[[vm]]\nname = 'a'\nmemory = '1M'\nkernel = 'k'\n[expect]\nends = 'x'\n",
        );
        let over = table(
            "cores = 1\nlist = [2, 3]\nvm = [{ name = 'a', memory = '2M' }, { name = 'b' }]\nexpect.lines = ['y']\n",
        );
        let merged = merge(&base, &over);
        let wanted = table(
            "cores = 1\nlist = [2, 3]\nvm = [{ name = 'a', memory = '2M', kernel = 'k' }, { name = 'b' }]\n\
             expect = { ends = 'x', lines = ['y'] }\n",
        );
        assert_eq!(merged, wanted);
    }
}
