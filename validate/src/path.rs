//! Where in an object something is wrong, and what.

use std::fmt::Write as _;

use bellwether_render::yaml::Node;

/// One thing that is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// `spec.template.spec.containers[0].image`; empty for the whole object.
    pub path: String,
    /// Stable, for machines.
    pub code: &'static str,
    pub message: String,
    pub hint: Option<String>,
    /// Where the object was read, from 1.
    pub line: u32,
}

impl Problem {
    /// The path as a JSON pointer.
    pub fn pointer(&self) -> String {
        let (mut pointer, mut rest) = (String::new(), self.path.as_str());
        while !rest.is_empty() {
            let (step, left) = next_step(rest);
            rest = left;
            let key = step.strip_prefix('[').and_then(|step| step.strip_suffix(']')).unwrap_or(step);
            let _ = write!(pointer, "/{}", key.replace('~', "~0").replace('/', "~1"));
        }
        pointer
    }
}

/// A path that grows and shrinks with the walk, and what was found on the way.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    path: String,
    problems: Vec<Problem>,
}

impl Trail {
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(crate) fn within<T>(&mut self, key: &str, walk: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        push_key(&mut self.path, key);
        let walked = walk(self);
        self.path.truncate(before);
        walked
    }

    pub(crate) fn within_item<T>(&mut self, index: usize, walk: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.path.len();
        push_index(&mut self.path, index);
        let walked = walk(self);
        self.path.truncate(before);
        walked
    }

    pub(crate) fn problem(&mut self, code: &'static str, line: u32, message: impl Into<String>) {
        self.problem_with_hint(code, line, message, None);
    }

    pub(crate) fn problem_with_hint(
        &mut self,
        code: &'static str,
        line: u32,
        message: impl Into<String>,
        hint: Option<String>,
    ) {
        let (path, message) = (self.path.clone(), message.into());
        self.problems.push(Problem { path, code, message, hint, line });
    }

    /// `wanted` is what stands there instead of what was found.
    pub(crate) fn wrong_type(&mut self, node: &Node, wanted: &str) {
        self.problem("field_type_wrong", node.line(), format!("is {}, not {wanted}", node.kind()));
    }
}

pub(crate) fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

pub(crate) fn push_key(path: &mut String, key: &str) {
    let is_plain =
        !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '$');
    if !is_plain {
        let _ = write!(path, "[{key}]");
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(key);
}

/// The line, from 1, of the field at a path such as `spec.waves[0].soak`, or of the nearest around it.
pub fn line_of(root: &Node, path: &str) -> u32 {
    let (mut node, mut line, mut rest) = (root, root.line(), path);
    while !rest.is_empty() {
        let (step, left) = next_step(rest);
        rest = left;
        let index = step.strip_prefix('[').and_then(|step| step.strip_suffix(']'));
        let found = match (&node.content, index) {
            (bellwether_render::yaml::Content::List(items), Some(index)) => {
                let item = index.parse::<usize>().ok().and_then(|index| items.get(index));
                item.map(|item| (item.line(), item))
            }
            (_, index) => {
                let key = index.unwrap_or(step);
                let entry = node.entries().and_then(|entries| entries.iter().find(|entry| &*entry.key == key));
                entry.map(|entry| (entry.line(), &entry.value))
            }
        };
        let Some(found) = found else { break };
        (line, node) = found;
    }
    line
}

fn next_step(path: &str) -> (&str, &str) {
    let path = path.strip_prefix('.').unwrap_or(path);
    if path.starts_with('[') {
        let end = path.find(']').map_or(path.len(), |end| end + 1);
        return path.split_at(end);
    }
    path.split_at(path.find(['.', '[']).unwrap_or(path.len()))
}

/// Whether it has a reference that is filled in for each cluster, so that nobody knows yet what stands there.
pub(crate) fn has_variable(text: &str) -> bool {
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        if !rest[..start].ends_with('$') {
            return true;
        }
        rest = &rest[start + 2..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_line() {
        let text = "a:\n  b.c/d: 1\n  e:\n  - x: 1\n  - w:\n      z: 1\n";
        let documents = bellwether_render::yaml::read("a.yaml", text.as_bytes()).expect("it is read");
        let root = &documents[0].root;

        let lines = ["", "a", "a[b.c/d]", "a.e[1].w.z", "a.e[1].q", "a.e[7]"].map(|path| line_of(root, path));

        assert_eq!(lines, [1, 1, 2, 6, 5, 3]);
    }

    #[test]
    fn a_path_is_written_as_it_is_read() {
        let mut trail = Trail::default();
        trail.within("a", |trail| {
            trail.within("b.c/d", |trail| trail.within_item(3, |trail| trail.problem("code", 1, "wrong")));
        });

        assert_eq!(trail.into_problems()[0].path, "a[b.c/d][3]");
    }

    #[test]
    fn a_reference_that_is_escaped_is_text() {
        assert!(has_variable("a-${b}") && has_variable("$${a}${b}"));
        assert!(!has_variable("$${a} $b $(c)"));
    }
}
