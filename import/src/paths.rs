//! Paths of a repository: relative to its root, with `/`; the root itself is empty.

pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

pub(crate) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

pub(crate) fn last_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

/// Without `.`, `..` and empty parts; `None` when it leads above the root.
pub(crate) fn normal(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// What leads from a folder to a path.
pub(crate) fn relative(from: &str, to: &str) -> String {
    let parts = |path: &'_ str| path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let (from, to) = (parts(from), parts(to));
    let same = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = from[same..].iter().map(|_| "..".to_owned());
    let path = up.chain(to[same..].iter().cloned()).collect::<Vec<_>>().join("/");
    if path.is_empty() { ".".to_owned() } else { path }
}

/// Whether a path is a folder, or lies below it.
pub(crate) fn is_within(path: &str, folder: &str) -> bool {
    folder.is_empty() || path == folder || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// How many of their first folders two files share.
pub(crate) fn shared(a: &str, b: &str) -> usize {
    folder_of(a).split('/').zip(folder_of(b).split('/')).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_they_say() {
        assert_eq!(normal("./apps//shop/../web/").as_deref(), Some("apps/web"));
        assert_eq!(normal("./").as_deref(), Some(""));
        assert_eq!(normal("../x"), None);
        assert_eq!(relative("bellwether/overlays/shop", "apps/shop"), "../../../apps/shop");
        assert_eq!(relative("apps/shop", "apps/shop/base"), "base");
        assert_eq!(relative("apps", "apps"), ".");
        assert!(is_within("a/b", "a") && is_within("a", "") && !is_within("ab", "a"));
    }
}
