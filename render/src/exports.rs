//! What a repo leaves out of what it exports: `export-ignore` in its `.gitattributes`.
//!
//! Whoever marks a file so says that it is no part of what is delivered. To deploy it all the same is one mistake, to leave it out
//! in silence another: what was deployed before would be pruned. So a target that would render it is told.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bellwether_core::render::below_mount;
use gix_attributes::Search;
use gix_attributes::glob::pattern::Case;
use gix_attributes::search::{MetadataCollection, Outcome};

use crate::engine::made::below;
use crate::error::{Failure, RenderError};
use crate::files::Found;
use crate::ignore::{COMPARED_MAX, is_costly, parts_of};

const FILE: &str = ".gitattributes";

const ATTRIBUTE: &str = "export-ignore";

/// Only the root's file may define one.
const MACRO: &[u8] = b"[attr]";

/// Lines that a path may have to be compared with: repos have a handful, and each of their files is compared.
pub(crate) const LINES_MAX: usize = 500;

/// A path, and what is said of it.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Such files have some lines; all of them are held and looked through.
pub(crate) const BYTES_MAX: usize = 256 << 10;

/// What is said in a folder, and in those that it is in.
struct Attributes {
    above: Option<Arc<Self>>,
    own: Search,
    names: MetadataCollection,
    /// Of this and those above.
    lines: usize,
    /// How often a path is gone through, at most.
    cost: usize,
    file: String,
    /// Other words may mean the attribute.
    has_macros: bool,
}

/// What is said of the files that were read.
#[derive(Default)]
pub(crate) struct Exports {
    /// Folders that stand for other repos: nothing above them is said of what is below.
    mounts: BTreeSet<String>,
    /// By folder.
    said: HashMap<String, Option<Arc<Attributes>>>,
    /// Folders that are exported.
    exported: HashSet<String>,
    /// Characters that were compared.
    compared: usize,
}

impl Exports {
    pub(crate) fn add_mount(&mut self, mount: String) {
        self.mounts.insert(mount);
    }

    /// Refuses a file that its repo leaves out of what it exports, itself or with a folder that it is in. `read` is asked for
    /// what is said, once for each folder.
    pub(crate) fn check<E>(
        &mut self,
        path: &str,
        read: &mut dyn FnMut(&str) -> Result<Found, Failure<E>>,
    ) -> Result<(), Failure<E>> {
        let mount = self.mounts.iter().find(|mount| below_mount(mount, path).is_some_and(|rest| !rest.is_empty()));
        let root = mount.cloned().unwrap_or_default();
        let start = if root.is_empty() { 0 } else { root.len() + 1 };
        let folders = path[start..].match_indices('/').map(|(end, _)| (start + end, true));
        let mut said = self.said_in(&root, None, true, read)?;
        for (end, is_folder) in folders.chain([(path.len(), false)]) {
            let part = &path[..end];
            if !self.exported.contains(part) {
                if let Some(said) = &said {
                    self.compared = self.compared.saturating_add(said.cost.saturating_mul(part.len()));
                    if self.compared > COMPARED_MAX {
                        return Err(RenderError::Attributes { file: said.file.clone() }.into());
                    }
                    if said.leave_out(part, is_folder) {
                        return Err(RenderError::ExportIgnored { file: path.to_owned(), by: part.to_owned() }.into());
                    }
                }
                self.exported.extend(is_folder.then(|| part.to_owned()));
            }
            if is_folder {
                said = self.said_in(part, said, false, read)?;
            }
        }
        Ok(())
    }

    /// What is said of what is in a folder, of which the one above says so much.
    fn said_in<E>(
        &mut self,
        folder: &str,
        above: Option<Arc<Attributes>>,
        is_root: bool,
        read: &mut dyn FnMut(&str) -> Result<Found, Failure<E>>,
    ) -> Result<Option<Arc<Attributes>>, Failure<E>> {
        if let Some(known) = self.said.get(folder) {
            return Ok(known.clone());
        }
        let file = below(folder, FILE);
        let said = match read(&file)? {
            Found::File(bytes) => Attributes::and(above, &file, &bytes, is_root)?,
            Found::TooLarge => return Err(RenderError::Attributes { file }.into()),
            Found::Folder | Found::Absent => above,
        };
        self.said.insert(folder.to_owned(), said.clone());
        Ok(said)
    }
}

impl Attributes {
    /// What a folder's own file says, beside what was said above it. Lines about other attributes are passed over, and a file
    /// that has no others says nothing.
    fn and(
        above: Option<Arc<Self>>,
        file: &str,
        bytes: &[u8],
        is_root: bool,
    ) -> Result<Option<Arc<Self>>, RenderError> {
        let speaks = |line: &[u8]| line.windows(ATTRIBUTE.len()).any(|part| part == ATTRIBUTE.as_bytes());
        let lines = || bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let defines = is_root && lines().any(|line| line.starts_with(MACRO) && speaks(line));
        let has_macros = defines || above.as_ref().is_some_and(|above| above.has_macros);
        let kept: Vec<&[u8]> = lines().filter(|line| (has_macros && !line.is_empty()) || speaks(line)).collect();
        if kept.is_empty() {
            return Ok(above);
        }
        let unread = || RenderError::Attributes { file: file.to_owned() };
        let (lines, cost) = above.as_ref().map_or((0, 0), |above| (above.lines, above.cost));
        let (lines, cost) = (lines + kept.len(), cost + kept.iter().map(|line| parts_of(line)).sum::<usize>());
        if lines > LINES_MAX || kept.iter().any(|line| line.len() > LINE_BYTES_MAX || is_costly(line)) {
            return Err(unread());
        }
        let mut names = above.as_ref().map(|above| above.names.clone()).unwrap_or_default();
        let mut own = Search::default();
        let added = own.add_patterns_buffer(&kept.join(&b'\n'), file.into(), Some("".as_ref()), &mut names, is_root);
        added.map_err(|_| unread())?;
        Ok(Some(Arc::new(Self { above, own, names, lines, cost, file: file.to_owned(), has_macros })))
    }

    /// The nearest folder that says something has its way.
    fn leave_out(&self, path: &str, is_folder: bool) -> bool {
        let mut outcome = Outcome::default();
        outcome.initialize_with_selection(&self.names, [ATTRIBUTE]);
        self.own.pattern_matching_relative_path(path.into(), Case::Sensitive, Some(is_folder), &mut outcome);
        let said = outcome.iter_selected().find(|found| !found.assignment.state.is_unspecified());
        match said {
            Some(found) => found.assignment.state.is_set(),
            None => self.above.as_ref().is_some_and(|above| above.leave_out(path, is_folder)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;

    struct Repo(BTreeMap<String, String>);

    impl Repo {
        fn check_with(&self, exports: &mut Exports, path: &str) -> Result<(), RenderError> {
            let read = &mut |file: &str| {
                let text = self.0.get(file).map(|text| text.clone().into_bytes());
                Ok(match text {
                    None => Found::Absent,
                    Some(bytes) if bytes.len() > BYTES_MAX => Found::TooLarge,
                    Some(bytes) => Found::File(bytes),
                })
            };
            exports.check(path, read).map_err(|failure: Failure<Infallible>| match failure {
                Failure::Render(error) => error,
                Failure::Files(never) | Failure::Source { error: never, .. } => match never {},
            })
        }
    }

    fn repo(files: &[(&str, &str)]) -> Repo {
        Repo(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn what_a_repo_leaves_out_of_its_exports_is_refused_and_what_is_beside_it_is_not() {
        let repo = repo(&[
            (".gitattributes", "*.md export-ignore\r\ninternal export-ignore\n[attr]private export-ignore\n"),
            ("c/.gitattributes", "/x.yaml export-ignore\ny.yaml private\nz.md -export-ignore\nnew !export-ignore\n"),
        ]);
        let mut exports = Exports::default();
        let mut by = |path: &str| match repo.check_with(&mut exports, path) {
            Ok(()) => None,
            Err(RenderError::ExportIgnored { file, by }) if file == path => Some(by),
            Err(other) => panic!("{other}"),
        };

        assert_eq!(by("a/README.md").as_deref(), Some("a/README.md"));
        assert_eq!(by("b/internal/deep/app.yaml").as_deref(), Some("b/internal"));
        assert_eq!(by("c/x.yaml").as_deref(), Some("c/x.yaml"));
        assert_eq!(by("c/y.yaml").as_deref(), Some("c/y.yaml"), "by a macro of the root's");
        for path in ["a/app.yaml", "b/app.yaml", "c/sub/x.yaml", "c/z.md", "c/.gitattributes", "internal.yaml"] {
            assert_eq!(by(path), None, "{path}");
        }
    }

    #[test]
    fn of_files_of_another_repo_that_one_says_what_is_exported() {
        let repo = repo(&[
            (".gitattributes", "*.yaml export-ignore\n"),
            ("env@refs/tags/v1:/.gitattributes", "/eu.yaml ours\n[attr]ours export-ignore\n"),
        ]);
        let mut exports = Exports::default();
        exports.add_mount("env@refs/tags/v1:".to_owned());

        assert!(repo.check_with(&mut exports, "a.yaml").is_err());
        assert!(repo.check_with(&mut exports, "env@refs/tags/v1:/us.yaml").is_ok());
        assert!(repo.check_with(&mut exports, "env@refs/tags/v1:/a/eu.yaml").is_ok());
        assert!(repo.check_with(&mut exports, "env@refs/tags/v1:/eu.yaml").is_err(), "its own root may have macros");
    }

    #[test]
    fn what_files_may_be_compared_with_is_bounded_and_the_file_that_says_too_much_is_named() {
        let lines =
            |count: usize| (0..count).map(|number| format!("{number}.md export-ignore\n")).collect::<Vec<_>>().concat();
        let (many, more, others, long) = (lines(300), lines(201), "a b\n".repeat(60_000), "a b\n".repeat(70_000));
        let repo = repo(&[
            ("many/.gitattributes", &many),
            ("many/more/.gitattributes", &more),
            ("others/.gitattributes", &others),
            ("long/.gitattributes", &long),
        ]);
        let mut exports = Exports::default();
        let mut check = |path: &str| repo.check_with(&mut exports, path);

        assert_eq!(check("many/a.yaml"), Ok(()));
        let too_much = |file: &str| Err(RenderError::Attributes { file: file.to_owned() });
        assert_eq!(check("many/more/a.yaml"), too_much("many/more/.gitattributes"), "501 lines");
        assert_eq!(check("long/a.yaml"), too_much("long/.gitattributes"));
        assert_eq!(check("others/a.yaml"), Ok(()), "lines about something else are none of them");
    }

    #[test]
    fn a_line_that_could_be_compared_for_ever_is_refused_and_so_is_much_work_together() {
        let bomb = format!("{}z export-ignore\n", "**/".repeat(60));
        let many = "a*b*c*d*e*f*g export-ignore\n".repeat(LINES_MAX);
        let repo = repo(&[("bomb/.gitattributes", &bomb), ("many/.gitattributes", &many)]);
        let mut exports = Exports::default();

        let refused = repo.check_with(&mut exports, &format!("bomb/{}app.yaml", "a/".repeat(30)));
        assert_eq!(refused, Err(RenderError::Attributes { file: "bomb/.gitattributes".to_owned() }));
        let long = "f".repeat(100);
        let refused =
            (0..100_000).find_map(|number| repo.check_with(&mut exports, &format!("many/{long}{number}")).err());
        assert_eq!(refused, Some(RenderError::Attributes { file: "many/.gitattributes".to_owned() }));
    }
}
