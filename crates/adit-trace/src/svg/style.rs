//! The colours and faces of all pictures, light, dark and on paper.
//!
//! Colours are written out for each class instead of as variables: viewers that know little CSS
//! (those that turn SVG into PDF or PNG) would draw everything black.

use std::fmt::Write as _;

use super::canvas::Tone;

/// The colours of one light.
pub(crate) struct Palette {
    pub(crate) paper: &'static str,
    /// Boxes on the paper.
    pub(crate) card: &'static str,
    tones: [&'static str; 6],
    /// Areas in the colour of each tone.
    fills: [&'static str; 6],
}

impl Palette {
    pub(crate) const LIGHT: Self = Self {
        paper: "#ffffff",
        card: "#f6f8fa",
        tones: ["#1b2027", "#57606a", "#c9d0d8", "#1957b8", "#9a4a00", "#c01f2e"],
        fills: ["#dfe3e8", "#e6e9ed", "#eef0f3", "#cfe0fb", "#fbe3c6", "#fbd5d8"],
    };
    pub(crate) const DARK: Self = Self {
        paper: "#13161b",
        card: "#1c2027",
        tones: ["#e8ebf0", "#9da7b3", "#3b434e", "#82b4ff", "#f0b060", "#ff7a85"],
        fills: ["#363d47", "#2b3139", "#242931", "#1f3a66", "#573a12", "#5c2329"],
    };

    pub(crate) fn tone(&self, tone: Tone) -> &'static str {
        pick(&self.tones, tone)
    }

    pub(crate) fn fill(&self, tone: Tone) -> &'static str {
        pick(&self.fills, tone)
    }
}

fn pick(colours: &[&'static str; 6], tone: Tone) -> &'static str {
    let at = Tone::ALL.iter().position(|one| *one == tone);
    at.and_then(|at| colours.get(at)).copied().unwrap_or("#000000")
}

/// Families of faces that systems have.
pub(crate) const SANS: &str =
    "system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif";
/// Their monospaced ones.
pub(crate) const MONO: &str =
    "ui-monospace,'SF Mono','Cascadia Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace";

/// The style of every picture. On paper it is the light one.
pub(crate) fn sheet() -> String {
    let mut css = format!(
        "svg text{{font-family:{SANS};font-size:13px;white-space:pre}}\n\
         svg .s,svg .h{{font-weight:600}}svg .h{{font-size:16px}}svg .n{{font-size:11px}}\n\
         svg .c,svg .y{{font-family:{MONO};font-size:12px}}svg .y{{font-size:10px}}\n\
         svg path{{fill:none;stroke-width:1.6;stroke-linejoin:round}}\n\
         svg .thin{{stroke-width:1}}svg .dash{{stroke-dasharray:6 5}}\
         svg .dots{{stroke-width:1.2;stroke-dasharray:1.5 5;stroke-linecap:round}}\n\
         svg .x{{stroke-width:3;stroke-linecap:round}}svg .hit{{fill:transparent}}\
         svg .halo text{{stroke-width:6px;stroke-linejoin:round;paint-order:stroke}}svg .card,svg .chip{{stroke-width:1}}\n"
    );
    css.push_str(&colours(&Palette::LIGHT, "svg "));
    let dark = colours(&Palette::DARK, "svg ");
    let _infallible = write!(css, "@media screen and (prefers-color-scheme:dark){{\n{dark}}}\n");
    css
}

fn colours(palette: &Palette, scope: &str) -> String {
    let mut css = String::new();
    for tone in Tone::ALL {
        let (letter, colour, fill) = (tone.letter(), palette.tone(tone), palette.fill(tone));
        let _infallible = writeln!(
            css,
            "{scope}.t{letter},{scope}.k{letter}{{fill:{colour}}}{scope}.l{letter}{{stroke:{colour}}}\
             {scope}.fill.t{letter}{{fill:{fill};stroke:{colour}}}"
        );
    }
    let (paper, card, frame, lost) =
        (palette.paper, palette.card, palette.tone(Tone::Faint), palette.tone(Tone::Lost));
    let _infallible = writeln!(
        css,
        "{scope}.paper{{fill:{paper}}}{scope}.card{{fill:{card};stroke:{frame}}}\
         {scope}.chip{{fill:{paper};stroke:{frame}}}{scope}.x{{stroke:{lost}}}{scope}.halo text{{stroke:{paper}}}{scope}.lane{{fill:{card}}}"
    );
    css
}
