//! The sequence while it happens: lines come as soon as nothing can change them any more.

use std::collections::BTreeMap;

use super::page::Page;
use super::{Options, View, head, sequence};
use crate::rows::{GAP_NS, Joiner, Observers, Row};
use crate::story::{Act, Seen, Talk, Teller};

/// Conversations that are held open at most. Of one whose end is missing among the events nothing more
/// comes; without a bound those would add up.
const OPEN_MAX: usize = 16_384;

/// At most this many acts of a row are remembered.
const ACTS_MAX: usize = 1;

/// Makes lines of events that still come in, the same that [`draw`](super::draw) makes of the file.
///
/// What is finished is dropped: the memory it takes depends on how many conversations are open, not on
/// how long it runs. At most 16,384 are held; beyond them those go that were silent for longest.
///
/// ```
/// use adit_trace::text::{Live, Options};
/// let mut live = Live::new(Options::default());
/// live.line(r#"{"v":1,"n":0,"t":0,"ev":"trace","role":"relay","prog":"adit explain :9000 :80"}"#);
/// live.line(r#"{"v":1,"n":1,"t":5,"ev":"open","conn":1,"role":"server","peer":"127.0.0.1:5000"}"#);
/// assert!(live.tick(60_000_000).iter().any(|line| line.contains("connected")));
/// ```
#[derive(Debug, Default)]
pub struct Live {
    options: Options,
    teller: Teller,
    open: BTreeMap<u64, Open>,
    has_head: bool,
    /// When all conversations last heard of the time.
    ticked: u64,
    /// The conversation whose line came last, and the one whose heading did.
    last: Option<u64>,
    headed: Option<u64>,
}

/// A conversation that goes on.
#[derive(Debug, Default)]
struct Open {
    talk: Talk,
    joiner: Joiner,
    observers: Observers,
    has_opening: bool,
    is_over: bool,
    last_at: u64,
}

impl Live {
    /// Nothing has happened yet.
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Takes in the next event, a line of JSON, and gives the lines that are finished by it.
    pub fn line(&mut self, json: &str) -> Vec<String> {
        let mut page = Page::default();
        if let Err(why) = self.teller.line(json) {
            page.hanging("note: ", &format!("a line could not be read and is left out: {why}"));
            return page.take();
        }
        let fresh = self.teller.take_acts();
        // The other conversations hear of the time too, if nobody ticks; not at every event.
        let now = fresh.iter().flat_map(|(_, acts)| acts).map(|act| act.at).max().unwrap_or(0);
        if now.saturating_sub(self.ticked) > GAP_NS / 2 {
            self.pass(now, &mut page);
        }
        for (talk, acts) in fresh {
            if self.options.talk.is_some_and(|number| number != talk.number) {
                if acts.iter().any(|act| act.did.is_end()) {
                    self.teller.forget(talk.number);
                }
                continue;
            }
            self.acts(talk, acts, &mut page);
        }
        for act in self.teller.take_general() {
            self.head(&mut page);
            head::happening(&mut page, &act);
        }
        self.notes(&mut page);
        page.take()
    }

    /// The head of the picture, once.
    fn head(&mut self, page: &mut Page) {
        if !std::mem::replace(&mut self.has_head, true) {
            head::head(page, self.teller.story(), View::Sequence, &self.options);
            page.line("");
        }
    }

    /// It is `now`, in nanoseconds since the start: gives the rows whose 50 ms have passed.
    ///
    /// `now` must not run ahead of the events: no event before it may come later.
    pub fn tick(&mut self, now: u64) -> Vec<String> {
        let mut page = Page::default();
        self.pass(now, &mut page);
        page.take()
    }

    fn pass(&mut self, now: u64, page: &mut Page) {
        self.ticked = now;
        let numbers: Vec<u64> = self.open.keys().copied().collect();
        for number in numbers {
            let mut rows = Vec::new();
            let Some(open) = self.open.get_mut(&number) else { continue };
            open.joiner.tick(now, &mut rows);
            let is_done =
                open.is_over && open.joiner.is_idle() && now.saturating_sub(open.last_at) > GAP_NS;
            self.rows(number, &rows, page);
            if is_done {
                self.open.remove(&number);
                self.teller.forget(number);
            }
        }
    }

    /// Nothing comes any more: gives the last rows.
    pub fn finish(mut self) -> Vec<String> {
        let mut page = Page::default();
        let numbers: Vec<u64> = self.open.keys().copied().collect();
        for number in numbers {
            self.let_go(number, &mut page);
        }
        page.take()
    }

    /// Lets go of the eighth that has been silent for longest, after its last rows.
    fn shed(&mut self, page: &mut Page) {
        let mut silent: Vec<_> =
            self.open.iter().map(|(number, open)| (open.last_at, *number)).collect();
        silent.sort_unstable();
        silent.truncate(OPEN_MAX / 8);
        for (_, number) in silent {
            self.let_go(number, page);
            self.open.remove(&number);
            self.teller.forget(number);
        }
    }

    /// The last rows of a conversation.
    fn let_go(&mut self, number: u64, page: &mut Page) {
        let mut rows = Vec::new();
        let Some(open) = self.open.get_mut(&number) else { return };
        std::mem::take(&mut open.joiner).finish(&mut rows);
        self.rows(number, &rows, page);
    }

    fn acts(&mut self, talk: Talk, acts: Vec<Act>, page: &mut Page) {
        let number = talk.number;
        if self.open.len() >= OPEN_MAX && !self.open.contains_key(&number) {
            self.shed(page);
        }
        let is_relay = self
            .teller
            .story()
            .programs
            .iter()
            .any(|program| matches!(program.seen, Seen::RelayToClient | Seen::RelayToServer));
        let open = self.open.entry(number).or_insert_with(|| {
            let observers = Observers { relay: is_relay, ..Observers::default() };
            Open {
                joiner: Joiner::new(observers).with_acts_max(ACTS_MAX),
                observers,
                ..Open::default()
            }
        });
        open.talk = talk;
        let mut rows = Vec::new();
        for act in acts {
            open.observers.add(act.seen);
            open.is_over |= act.did.is_end();
            open.last_at = open.last_at.max(act.at);
            open.joiner.push(0, &act, &mut rows);
        }
        self.rows(number, &rows, page);
    }

    fn rows(&mut self, number: u64, rows: &[Row], page: &mut Page) {
        let Some(first) = rows.first() else { return };
        self.head(page);
        let several = self.open.len() > 1;
        let Some(open) = self.open.get_mut(&number) else { return };
        if !open.has_opening {
            open.has_opening = true;
            self.headed = Some(number);
            if self.last.is_some() {
                page.line("");
            }
            for line in sequence::opening(&open.talk, open.observers, Some(first), &self.options) {
                page.line(&line);
            }
        }
        self.last = Some(number);
        let label =
            if several || self.headed != Some(number) { number.to_string() } else { String::new() };
        for row in rows {
            for line in sequence::lines(row, &open.talk, &label) {
                page.line(&line);
            }
        }
    }

    /// What is missing or could not be read, as soon as it is known.
    fn notes(&mut self, page: &mut Page) {
        for note in self.teller.take_notes() {
            page.hanging("note: ", &note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Live, OPEN_MAX, Options};

    const MANY: usize = OPEN_MAX + OPEN_MAX / 4;

    #[test]
    fn conversations_whose_end_is_missing_do_not_add_up() {
        let mut live = Live::new(Options::default());
        let mut connected = 0;
        for number in 0..MANY {
            let open = format!(
                "{{\"v\":1,\"n\":{number},\"t\":{number}.5,\"ev\":\"open\",\"conn\":{number},\
                 \"role\":\"server\",\"peer\":\"127.0.0.1:5000\"}}"
            );
            let lines = live.line(&open);
            connected += lines.iter().filter(|line| line.contains("connected")).count();
            assert!(live.open.len() <= OPEN_MAX);
        }
        assert!(live.teller.story().talks.len() <= OPEN_MAX, "nor does what is told of them");
        connected += live.finish().iter().filter(|line| line.contains("connected")).count();
        assert_eq!(connected, MANY, "each is drawn once");
    }
}
