//! What a folder is, by the names of the files in it: whoever looks for manifests in a tree goes by the same rule.

use crate::ignore;

/// The file that makes a folder a chart.
pub const CHART: &str = "Chart.yaml";

/// Folders of a chart's own, and its files besides those that tell their values.
const CHART_FOLDERS: [&str; 5] = ["charts", "ci", "crds", "files", "templates"];
const CHART_FILES: [&str; 4] = [CHART, "Chart.lock", "requirements.yaml", "requirements.lock"];

/// Whether what is at a path in a chart's folder is part of the chart, and so no manifest. A folder itself is written with a
/// `/` at its end.
pub fn is_part_of_chart(path: &str) -> bool {
    match path.split_once('/') {
        Some((folder, _)) => CHART_FOLDERS.contains(&folder),
        None => CHART_FILES.contains(&path) || path.starts_with("values") || ignore::is_of_another_tool(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_part_of_a_chart_is_told_by_its_place() {
        for part in [
            "Chart.yaml",
            "Chart.lock",
            "values.yaml",
            "values-eu.yaml",
            "values.schema.json",
            "templates/",
            "templates/web.yaml",
            "charts/db/Chart.yaml",
            "crds/a.yaml",
            "ci/eu-values.yaml",
            "files/a/b.json",
        ] {
            assert!(is_part_of_chart(part), "{part}");
        }
        for other in ["docs/", "docs/a.yaml", "target.yaml", "templates.yaml", "examples/templates/a.yaml"] {
            assert!(!is_part_of_chart(other), "{other}");
        }
    }
}
