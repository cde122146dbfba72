//! Relief: who goes when memory is short.
//!
//! In this order: whoever holds it for a peer that does nothing, then whoever holds most. An idle
//! conversation that holds nothing stays: the memory it costs was set aside when the server began, for as
//! many as may come, and its end would give nothing back to those who need some.

use std::cmp::Reverse;
use std::rc::Rc;

use tokio::time::{Instant, sleep};

use crate::budget::{Account, MOMENT, Measure, PATIENCE};
use crate::peer::Desk;
use crate::worker::Worker;

/// What one holds for a peer that does nothing is worth its end if it is this part of what the one holds
/// that holds most, or more. Else many would go who hold next to nothing, in the place of one.
const WORTH: usize = 4;

impl Worker {
    /// Memory is nearly spent: cuts one conversation of this thread. One at a time: what it held is given
    /// back before the next one is looked at.
    pub(crate) fn lighten(&self) {
        let budget = &self.shared.budget;
        budget.take_order(self.index);
        let is_going = |desk: &Rc<Desk>| desk.is_shed() && held(desk) > 0;
        if !budget.is_over() || self.desks.borrow().values().any(is_going) {
            return;
        }
        let most = self.heaviest(|_| true).next();
        let worth = most.as_ref().map_or(0, held).max(budget.average()) / WORTH;
        let stuck = self.heaviest(|account| account.is_stuck(MOMENT)).next();
        let goes = stuck
            .filter(|desk| held(desk) >= worth)
            .or_else(|| most.filter(|desk| budget.is_critical() && desk.account().is_heavy()));
        if let Some(desk) = goes {
            self.cut(&desk);
        }
    }

    /// While memory is tight, looks now and then for those that nothing else wakes: who has sent half a
    /// message and is silent, and raw streams whose peer does not read. Never returns.
    pub(crate) async fn relieve(&self) {
        let budget = &self.shared.budget;
        loop {
            budget.tight().await;
            let since = Instant::now();
            while budget.is_tight() {
                sleep(MOMENT).await;
                if since.elapsed() >= PATIENCE {
                    self.cut_stuck();
                }
                self.lighten();
            }
        }
    }

    /// Cuts those that hold much for a peer that does nothing, until there is enough.
    fn cut_stuck(&self) {
        let mut excess = self.shared.budget.excess();
        for desk in self.heaviest(|account| account.is_heavy() && account.is_stuck(PATIENCE)) {
            if excess == 0 {
                return;
            }
            excess = excess.saturating_sub(held(&desk));
            self.cut(&desk);
        }
    }

    /// Those of this thread that hold anything and are so, beginning with who holds most.
    fn heaviest(&self, is_so: impl Fn(&Account) -> bool) -> impl Iterator<Item = Rc<Desk>> {
        let desks = self.desks.borrow();
        let is_meant =
            |desk: &&Rc<Desk>| held(desk) > 0 && !desk.is_shed() && is_so(desk.account());
        let mut heaviest: Vec<_> = desks.values().filter(is_meant).map(Rc::clone).collect();
        heaviest.sort_by_key(|desk| Reverse(held(desk)));
        heaviest.into_iter()
    }

    fn cut(&self, desk: &Desk) {
        desk.shed();
        self.shared.budget.tell(Measure::Cut, &self.context.observers);
    }
}

fn held(desk: &Rc<Desk>) -> usize {
    desk.account().held()
}
