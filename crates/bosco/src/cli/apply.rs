//! What `apply` is asked with.

use bosco_model::{Goal, HostName, Selector};
use clap::Args;

use super::{GoalArg, selector};
use crate::activate::Ask;
use crate::error::{Error, Exit};
use crate::gate::Rule;
use crate::push::Wish;

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Which hosts; all without it
    ///
    /// `web-*` by name, `@tag` by tag, `a,b` or `a b` either, `@web & !@canary` both, `!` not, parentheses group. Quote
    /// what means something to your shell.
    #[arg(value_name = "SELECTOR")]
    words: Vec<String>,
    /// The same, as Colmena has it: `apply boot --on web` is `apply web --goal boot`
    #[arg(long, value_parser = Selector::parse, value_name = "SELECTOR")]
    on: Vec<Selector>,
    /// How far to go
    #[arg(long, value_enum, default_value_t = GoalArg(Goal::Switch), value_name = "GOAL")]
    pub(crate) goal: GoalArg,
    /// Deliver to each host as soon as it is built, whatever becomes of the others
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Deliver to none unless all can be reached, and built
    #[arg(long, conflicts_with = "keep_going")]
    pub(crate) require_all: bool,
    /// Let hosts reboot where only that brings the change in: another kernel, initrd or init
    #[arg(long)]
    pub(crate) reboot: bool,
    /// Try a system again that has failed on a host and is in quarantine there
    #[arg(long)]
    pub(crate) again: bool,
    /// Have each host build what it is to run, as `deployment.buildOnTarget` does
    #[arg(long)]
    pub(crate) build_on_target: bool,
    /// Have Nix build on this host of the fleet what is not there yet, and nothing here
    #[arg(long, value_name = "HOST", value_parser = HostName::parse, conflicts_with = "build_on_target")]
    pub(crate) build_on: Option<HostName>,
    /// Ask nothing: at a terminal, what changes is shown before a whole fleet is changed
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Replace what hosts boot also where nobody knows here who has made that
    #[arg(long)]
    force_replace_unknown_profiles: bool,
    /// Send hosts all that they lack, also what their own caches have
    #[arg(long, visible_alias = "no-substitutes")]
    no_substitute: bool,
    /// Let a link to what was built stay for each host, in .gcroots beside the fleet
    #[arg(long)]
    keep_result: bool,
    #[command(flatten)]
    pub(crate) habits: Habits,
}

/// What Colmena takes with each command that goes to hosts, or builds for them.
#[derive(Debug, Args)]
pub(crate) struct Habits {
    /// How many hosts are gone to at once; 0 is no limit
    #[arg(long, short, value_name = "N")]
    parallel: Option<usize>,
    /// There for scripts: so many are evaluated at once as the machine has room for
    #[arg(long, hide = true, value_name = "N")]
    eval_node_limit: Option<String>,
    /// Leave the secrets of hosts as they are
    #[arg(long, hide = true)]
    no_keys: bool,
}

impl Habits {
    /// How many hosts are gone to at once, where not as many as there are.
    pub(crate) fn most(&self) -> Option<usize> {
        self.parallel.filter(|most| *most > 0)
    }

    /// The same wish, with what is said here.
    pub(crate) fn with(&self, wish: Wish) -> Wish {
        Wish { parallel: self.most(), no_keys: self.no_keys, ..wish }
    }
}

/// What this machine is brought to.
#[derive(Debug, Args)]
pub(crate) struct ApplyLocal {
    /// How far to go
    #[arg(value_enum, default_value_t = GoalArg(Goal::Switch), value_name = "GOAL")]
    pub(crate) goal: GoalArg,
    /// What the machine is called in the fleet; its own name without it
    #[arg(long, value_name = "NAME", value_parser = HostName::parse)]
    pub(crate) node: Option<HostName>,
    /// Try a system again that has failed here and is in quarantine
    #[arg(long)]
    pub(crate) again: bool,
    /// There for scripts: who is not root becomes it as the fleet says
    #[arg(long, hide = true)]
    sudo: bool,
    #[command(flatten)]
    pub(crate) habits: Habits,
}

impl Apply {
    /// How far to go, and with which hosts; all without a selector.
    pub(crate) fn what(&self) -> Result<(Goal, Option<Selector>), Error> {
        if self.on.is_empty() {
            return Ok((self.goal.0, selector(&self.words)?));
        }
        let goal = |word: &String| Goal::ALL.into_iter().find(|goal| goal.word() == word);
        let goal = match self.words.as_slice() {
            [] => Some(self.goal.0),
            [word] => goal(word),
            _ => None,
        };
        let goal = goal.ok_or_else(|| {
            Error::new(Exit::Usage, "hosts stand either behind `apply` or behind `--on`")
                .hint("`--goal` says how far to go")
        })?;
        Ok((goal, Selector::any(self.on.clone())))
    }

    /// What is to be done.
    pub(crate) fn wish(&self, goal: Goal) -> Wish {
        let rule = match (self.keep_going, self.require_all) {
            (true, _) => Rule::Each,
            (_, true) => Rule::All,
            _ => Rule::AllBuilt,
        };
        let ask = Ask { reboot: self.reboot, again: self.again, ..Ask::default() };
        self.habits.with(Wish {
            ask,
            build_on_target: self.build_on_target,
            build_on: self.build_on.clone(),
            yes: self.yes,
            replace_unknown: self.force_replace_unknown_profiles,
            substitute: !self.no_substitute,
            keep_result: self.keep_result,
            ..Wish::new(goal, rule)
        })
    }
}
