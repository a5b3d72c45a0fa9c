//! Scenario scripts of the deciders: a file of words each, one test each.

/// Lines that say something, numbered from 1. A script's comments say what it shows.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Carries a line out: its first word, and the rest. When that fails, the line is named.
pub(crate) fn step(number: usize, line: &str, carry_out: impl FnOnce(&str, &str)) {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let carried_out = std::panic::AssertUnwindSafe(|| carry_out(word, rest.trim()));
    if let Err(cause) = std::panic::catch_unwind(carried_out) {
        let text = cause.downcast_ref::<String>().cloned();
        panic!("line {number}: `{line}`: {}", text.unwrap_or_else(|| "see above".to_owned()));
    }
}

/// A test for each script of the folder `scenarios` beside the caller's file, which it plays.
macro_rules! scenarios {
    ($play:path: $($name:ident),+ $(,)?) => {$(
        #[test]
        fn $name() {
            $play(include_str!(concat!("scenarios/", stringify!($name), ".txt")));
        }
    )+};
}

pub(crate) use scenarios;
