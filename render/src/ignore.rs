//! What is left out of a folder of plain manifests: by `.bellwetherignore`, which has the rules of `.gitignore`, and by
//! names that other tools give to files that are no manifests.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::LazyLock;

use bellwether_core::source::is_valid_path;
use gix_ignore::glob::{Pattern, pattern::Case, wildmatch};

use crate::error::RenderError;

/// Read in the folder of a target and in those above it, up to the repo's root.
pub const FILE: &str = ".bellwetherignore";

/// Of such a file: some thousand lines.
pub const BYTES_MAX: usize = 64 * 1024;

/// Of a line: each more may make a match take longer by the length of a path.
const STARS_MAX: usize = 8;

/// Of all such files together. What they leave out is mostly folders.
const LINES_MAX: usize = 1_000;

/// Characters that are compared, for all lines and paths: a second's work. It is some hundred lines in a repo of ten thousand
/// files, of which a target with a folder of its own has few.
pub(crate) const COMPARED_MAX: usize = 1 << 30;

/// Files of forges, editors and tools; they may be taken back in by `!`.
const HIDDEN: &str = ".*\n";

/// Files that other tools read. One that holds objects all the same is none of these.
const OTHERS: &str = "\
values.yaml\nvalues.yml\nvalues-*.yaml\nvalues-*.yml\n*-values.yaml\n*.values.yaml\nvalues.*.yaml\n*.schema.json\n\
kustomizeconfig.yaml\nkustomizeconfig.yml\nfleet.yaml\nfleet.yml\nhelmfile.yaml\nskaffold.yaml\n\
docker-compose*.yaml\ndocker-compose*.yml\ncompose.yaml\ncompose.yml\ndocker-stack.yml\n\
package.json\npackage-lock.json\ntsconfig*.json\nrenovate.json\ncloudbuild.yaml\nmkdocs.yml\nTaskfile.yml\nTaskfile.yaml\n";

/// Lists of patterns, the outermost first.
#[derive(Debug)]
pub struct Rules {
    lists: Vec<List>,
    lines: usize,
    /// Folders that were asked about, and whether they are left out.
    folders: RefCell<HashMap<String, bool>>,
    compared_left: Cell<usize>,
}

#[derive(Debug, Clone)]
struct List {
    /// Where it was written; its patterns are for what is below.
    folder: String,
    patterns: Vec<Pattern>,
    /// How often it goes over a path, at most.
    cost: usize,
}

/// How often a path is gone through to match a line, at most.
pub(crate) fn parts_of(line: &[u8]) -> usize {
    line.split(|byte| *byte == b'*').count()
}

/// Whether a match of a line may take as long as it likes.
pub(crate) fn is_costly(line: &[u8]) -> bool {
    line.split(|byte| *byte == b'*').filter(|part| !part.is_empty()).count() > STARS_MAX
}

impl Rules {
    /// Those that hold everywhere.
    pub fn new() -> Self {
        let (folders, compared_left) = (RefCell::default(), Cell::new(COMPARED_MAX));
        Self { lists: vec![List::parse("", HIDDEN)], lines: 0, folders, compared_left }
    }

    /// One that goes over those before: it lies deeper.
    pub fn add(&mut self, folder: &str, file: &str, bytes: &[u8]) -> Result<(), RenderError> {
        let text = String::from_utf8_lossy(bytes);
        if bytes.len() > BYTES_MAX || text.lines().any(|line| is_costly(line.as_bytes())) {
            return Err(RenderError::IgnoreFile { file: file.to_owned() });
        }
        let list = List::parse(folder, &text);
        self.lines += list.patterns.len();
        if self.lines > LINES_MAX {
            return Err(RenderError::IgnoreFile { file: file.to_owned() });
        }
        self.lists.push(list);
        self.folders.get_mut().clear();
        Ok(())
    }

    /// Whether all that was asked could be answered. After that everything was left out.
    pub(crate) fn is_within_bounds(&self) -> bool {
        self.compared_left.get() > 0
    }

    /// Whether what is at a path is left out, or is in a folder that is. `folder` is the target's, of which nothing is asked.
    pub fn leaves_out(&self, folder: &str, path: &str, is_folder: bool) -> bool {
        let within = path.strip_prefix(folder).unwrap_or(path);
        let start = path.len() - within.trim_start_matches('/').len();
        let ends = path[start..].match_indices('/').map(|(at, _)| start + at);
        if !self.is_within_bounds() || ends.into_iter().any(|end| self.leaves_out_folder(&path[..end])) {
            return true;
        }
        if is_folder { self.leaves_out_folder(path) } else { self.matches(path, false) }
    }

    /// Each is decided once, not for each file in it.
    fn leaves_out_folder(&self, path: &str) -> bool {
        if let Some(known) = self.folders.borrow().get(path) {
            return *known;
        }
        let is_left_out = self.matches(path, true);
        self.folders.borrow_mut().insert(path.to_owned(), is_left_out);
        is_left_out
    }

    /// The last line that matches decides, of the innermost list that has one.
    fn matches(&self, path: &str, is_folder: bool) -> bool {
        let cost = self.lists.iter().map(|list| list.cost).fold(0, usize::saturating_add).saturating_mul(path.len());
        self.compared_left.set(self.compared_left.get().saturating_sub(cost));
        let found = self.lists.iter().rev().find_map(|list| list.find(path, is_folder));
        found.is_some_and(|pattern| !pattern.is_negative())
    }
}

/// What was asked is not copied: who goes down a tree has a copy for each folder.
impl Clone for Rules {
    fn clone(&self) -> Self {
        let (lists, compared_left) = (self.lists.clone(), self.compared_left.clone());
        Self { lists, lines: self.lines, folders: RefCell::default(), compared_left }
    }
}

impl Default for Rules {
    fn default() -> Self {
        Self::new()
    }
}

impl List {
    fn parse(folder: &str, text: &str) -> Self {
        let patterns: Vec<_> = gix_ignore::parse(text.as_bytes(), false).map(|(pattern, ..)| pattern).collect();
        let cost = patterns.iter().map(|pattern| parts_of(&pattern.text)).sum();
        Self { folder: folder.to_owned(), patterns, cost }
    }

    fn find(&self, path: &str, is_folder: bool) -> Option<&Pattern> {
        let within = match self.folder.as_str() {
            "" => path,
            folder => path.strip_prefix(folder)?.strip_prefix('/')?,
        };
        let name = within.rfind('/').map(|at| at + 1);
        self.patterns.iter().rev().find(|pattern| {
            let mode = wildmatch::Mode::NO_MATCH_SLASH_LITERAL;
            pattern.matches_repo_relative_path(within.into(), name, Some(is_folder), Case::Sensitive, mode)
        })
    }
}

/// Whether a file is named as one that another tool reads.
pub fn is_of_another_tool(path: &str) -> bool {
    static PARSED: LazyLock<List> = LazyLock::new(|| List::parse("", OTHERS));
    PARSED.find(path, false).is_some()
}

/// The line of a `.bellwetherignore` at the repo's root that leaves out what is at a path.
pub(crate) fn line_for(path: &str) -> String {
    let is_plain = is_valid_path(path.trim_end_matches('/')) && !path.contains(['*', '?', '[', '\\', ' ']);
    if is_plain { format!("/{path}") } else { "its path".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(lists: &[(&str, &str)]) -> Rules {
        let mut rules = Rules::new();
        for (folder, text) in lists {
            rules.add(folder, FILE, text.as_bytes()).expect("it is read");
        }
        rules
    }

    #[test]
    fn lines_are_read_as_git_reads_them() {
        let rules = rules(&[
            ("", "# no manifests\n\n/apps/shop/ci/\n*.tmpl.yaml\n!kept.tmpl.yaml\n"),
            ("apps/shop", "docs/*.yaml\n**/samples\n!.kept/\n"),
        ]);
        let left_out = |path: &str| rules.leaves_out("apps/shop", path, false);

        for path in [
            "apps/shop/ci/a.yaml",
            "apps/shop/ci/deep/a.yaml",
            "apps/shop/a.tmpl.yaml",
            "apps/shop/docs/a.yaml",
            "apps/shop/x/samples/a.yaml",
            "apps/shop/.github/a.yaml",
            "apps/shop/.sops.yaml",
        ] {
            assert!(left_out(path), "{path}");
        }
        for path in [
            "apps/shop/a.yaml",
            "apps/shop/kept.tmpl.yaml",
            "apps/shop/docs/deep/a.yaml",
            "apps/shop/.kept/a.yaml",
            "apps/shop/cia/a.yaml",
        ] {
            assert!(!left_out(path), "{path}");
        }
    }

    #[test]
    fn a_target_may_be_in_a_folder_that_would_be_left_out() {
        let rules = rules(&[("", "apps/\n")]);

        assert!(!rules.leaves_out(".deploy", ".deploy/a.yaml", false));
        assert!(!rules.leaves_out("apps", "apps/a.yaml", false));
        assert!(rules.leaves_out("", "apps/a.yaml", false));
    }

    #[test]
    fn a_line_that_would_take_for_ever_is_refused() {
        let error = Rules::new().add("", FILE, "a*b*c*d*e*f*g*h*i*j.yaml".as_bytes()).expect_err("it is refused");

        assert_eq!(error.code(), "ignore_file_invalid");
        assert!(Rules::new().add("", FILE, &vec![b'\n'; BYTES_MAX + 1]).is_err());
    }

    #[test]
    fn lines_and_what_they_are_compared_with_have_a_bound_together() {
        let lines = |count: usize| "*b\n".repeat(count);
        assert!(Rules::new().add("", FILE, lines(LINES_MAX + 1).as_bytes()).is_err());
        let mut two = Rules::new();
        two.add("", FILE, lines(LINES_MAX).as_bytes()).expect("it is read");
        assert_eq!(two.add("a", "a/ignore", b"*b\n").expect_err("one too many").file(), Some("a/ignore"));

        let rules = rules(&[("", &lines(LINES_MAX))]);
        let path = |number: usize| format!("{}{number}.yaml", "deep/".repeat(30));
        let asked = (0..100_000).take_while(|number| !rules.leaves_out("", &path(*number), false)).count();
        assert!((1_000..10_000).contains(&asked), "{asked} were answered");
        assert!(!rules.is_within_bounds());
        let few = self::rules(&[("", &lines(20))]);
        assert!((0..20_000).all(|number| !few.leaves_out("", &path(number), false)) && few.is_within_bounds());
    }

    #[test]
    fn files_of_other_tools_are_known_by_their_names() {
        for name in ["values.yaml", "a/values-prod.yaml", "a/docker-compose.dev.yml", "fleet.yaml", "x/package.json"] {
            assert!(is_of_another_tool(name), "{name}");
        }
        for name in ["deployment.yaml", "a/values/b.yaml", "config.yaml"] {
            assert!(!is_of_another_tool(name), "{name}");
        }
    }
}
