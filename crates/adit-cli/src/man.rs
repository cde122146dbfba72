//! The man pages are made from the definition the parser uses; this test keeps `man/` equal to it.

use std::path::Path;

use clap::CommandFactory as _;

use crate::args::Cli;

/// Every page by its file name.
fn pages() -> Vec<(String, String)> {
    let mut root = Cli::command();
    root.build();
    let render = |command: clap::Command| {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).date("").render(&mut page).unwrap();
        String::from_utf8(page).unwrap()
    };
    let mut pages = Vec::new();
    for command in root.get_subcommands().cloned() {
        let name = format!("adit-{}", command.get_name());
        for inner in command.get_subcommands().cloned() {
            let name = format!("{name}-{}", inner.get_name());
            pages.push((format!("{name}.1"), render(inner.display_name(name))));
        }
        pages.push((format!("{name}.1"), render(command.display_name(name))));
    }
    pages.push(("adit.1".to_owned(), render(root)));
    pages
}

/// `ADIT_BLESS=1 cargo test -p adit-cli man` writes them anew.
#[test]
fn the_man_pages_are_those_of_the_parser() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../man");
    let bless = std::env::var_os("ADIT_BLESS").is_some();
    for (name, page) in pages() {
        let path = folder.join(name);
        if bless {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(written == page, "{} differs: ADIT_BLESS=1 writes it anew", path.display());
    }
}

#[test]
fn help_man_and_completions_name_the_same_flags() {
    let mut root = Cli::command();
    root.build();
    let mut scripts = String::new();
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish]
    {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "adit", &mut script);
        scripts.push_str(&String::from_utf8(script).unwrap());
    }
    let pages: String = pages().into_iter().map(|(_, page)| page.replace("\\-", "-")).collect();
    let outer: Vec<_> = root.get_subcommands().cloned().collect();
    let inner = outer.iter().flat_map(clap::Command::get_subcommands).cloned();
    for mut command in outer.clone().into_iter().chain(inner) {
        let help = command.render_long_help().to_string();
        for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(help.contains(&format!("--{flag}")), "help of {}: {flag}", command.get_name());
            assert!(pages.contains(&format!("--{flag}")), "man page: {flag}");
            assert!(scripts.matches(flag).count() >= 3, "completions: {flag}");
        }
    }
}

#[test]
fn the_first_screen_of_help_fits_a_terminal() {
    let help = Cli::command().render_help().to_string();
    assert!(help.trim_end().lines().count() <= 24, "{help}");
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
}
