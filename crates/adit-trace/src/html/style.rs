//! The style of the page: the pictures' own, and what stands around them.

use crate::svg::{MONO, Palette, SANS, Tone, sheet as pictures};

/// All of it; nothing of a story is written into it.
pub(super) fn sheet() -> String {
    let (light, dark) = (variables(&Palette::LIGHT), variables(&Palette::DARK));
    let (pictures, page) = (pictures(), include_str!("page.css"));
    format!(
        ":root{{{light}--sans:{SANS};--mono:{MONO}}}\n\
         @media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{dark}}}}}\n\
         {pictures}{page}"
    )
}

fn variables(palette: &Palette) -> String {
    let mut css = format!("--paper:{};--card:{};", palette.paper, palette.card);
    for tone in Tone::ALL {
        let (letter, colour, fill) = (tone.letter(), palette.tone(tone), palette.fill(tone));
        css.push_str(&format!("--{letter}:{colour};--f{letter}:{fill};"));
    }
    css
}
