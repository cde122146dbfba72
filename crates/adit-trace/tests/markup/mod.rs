//! A strict reader of the markup that pictures are made of: what it does not know is an error.

/// A `<text>`: its attributes, and what it says.
pub(crate) type Text = (Vec<(String, String)>, String);

/// Checks a whole text: elements balanced and known, attributes quoted, known and once, nothing raw in
/// the text between them. Gives the attributes and the text of all `<text>` elements.
pub(crate) fn check(markup: &str, known: &Known) -> Result<Vec<Text>, String> {
    let mut open: Vec<String> = Vec::new();
    let mut texts = Vec::new();
    let mut rest = markup;
    if let Some(char) = markup.chars().find(|char| is_forbidden(*char)) {
        return Err(format!("forbidden character {char:?}"));
    }
    while !rest.is_empty() {
        let at = rest.find('<').unwrap_or(rest.len());
        let (text, tail) = rest.split_at(at);
        plain(text)?;
        if let (Some("text"), Some((_, words))) =
            (open.last().map(String::as_str), texts.last_mut())
        {
            String::push_str(words, text);
        }
        rest = tail;
        if rest.is_empty() {
            break;
        }
        let end = rest.find('>').ok_or("a tag without an end")?;
        let (tag, tail) = (&rest[1..end], &rest[end + 1..]);
        rest = tail;
        if tag == "!doctype html" {
            continue;
        }
        if let Some(name) = tag.strip_prefix('/') {
            let last = open.pop();
            if last.as_deref() != Some(name) {
                return Err(format!("</{name}> ends {last:?}"));
            }
            continue;
        }
        let is_empty = tag.ends_with('/');
        let (name, attributes) = parts(tag.trim_end_matches('/'))?;
        if !known.elements.contains(&name.as_str()) {
            return Err(format!("unknown element <{name}>"));
        }
        for (attribute, _) in &attributes {
            let is_known = attribute.starts_with("data-")
                || attribute.starts_with("aria-")
                || known.attributes.contains(&attribute.as_str());
            if !is_known {
                return Err(format!("unknown attribute {attribute} of <{name}>"));
            }
        }
        if name == "text" {
            texts.push((attributes, String::new()));
        }
        // What stands in these is no markup; they end with their own end tag.
        if name == "style" || name == "script" {
            let end = rest.find(&format!("</{name}>")).ok_or("an element without an end")?;
            if rest[..end].contains("<!--") {
                return Err("a comment within a script".to_owned());
            }
            rest = &rest[end..];
        }
        if !is_empty && !["meta", "input"].contains(&name.as_str()) {
            open.push(name);
        }
    }
    if open.is_empty() { Ok(texts) } else { Err(format!("not ended: {open:?}")) }
}

/// What may stand in a text.
pub(crate) struct Known {
    pub(crate) elements: &'static [&'static str],
    pub(crate) attributes: &'static [&'static str],
}

/// An SVG file.
pub(crate) const SVG: Known = Known {
    elements: &["svg", "g", "path", "text", "rect", "circle", "title", "style"],
    attributes: &[
        "xmlns",
        "xml:space",
        "role",
        "width",
        "height",
        "viewBox",
        "class",
        "d",
        "x",
        "y",
        "rx",
        "cx",
        "cy",
        "r",
        "text-anchor",
        "transform",
    ],
};

/// A page.
pub(crate) const HTML: Known = Known {
    elements: &[
        "html", "head", "meta", "title", "style", "body", "header", "p", "h1", "h2", "h3", "time",
        "ul", "li", "section", "span", "code", "a", "details", "summary", "figure", "article",
        "div", "aside", "button", "input", "output", "table", "thead", "tbody", "tr", "th", "td",
        "script", "svg", "g", "path", "text", "rect", "circle",
    ],
    attributes: &[
        "lang",
        "charset",
        "http-equiv",
        "content",
        "name",
        "id",
        "type",
        "min",
        "step",
        "title",
        "placeholder",
        "href",
        "tabindex",
        "xml:space",
        "role",
        "width",
        "height",
        "viewBox",
        "class",
        "d",
        "x",
        "y",
        "rx",
        "cx",
        "cy",
        "r",
        "text-anchor",
        "transform",
    ],
};

/// What no text of a picture holds: controls, what turns the order of text around, no characters.
fn is_forbidden(char: char) -> bool {
    (char.is_control() && char != '\n')
        || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(char, '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' | '\u{feff}')
}

/// Text between tags, or a value: no raw ampersand.
fn plain(text: &str) -> Result<(), String> {
    for piece in text.split('&').skip(1) {
        let entities = ["amp;", "lt;", "gt;", "quot;", "#39;"];
        if !entities.iter().any(|entity| piece.starts_with(entity)) {
            return Err(format!("a raw ampersand before {piece:?}"));
        }
    }
    Ok(())
}

fn parts(tag: &str) -> Result<(String, Vec<(String, String)>), String> {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    let mut attributes: Vec<(String, String)> = Vec::new();
    while !rest.trim().is_empty() {
        let (attribute, tail) = rest.trim_start().split_once("=\"").ok_or("no quoted value")?;
        let (value, tail) = tail.split_once('"').ok_or("a value without an end")?;
        plain(value)?;
        if attributes.iter().any(|(known, _)| known == attribute) {
            return Err(format!("{attribute} twice"));
        }
        attributes.push((attribute.to_owned(), value.to_owned()));
        rest = tail;
    }
    Ok((name.to_owned(), attributes))
}
