//! `bosco apply` and `bosco build`.

use bosco_model::{Goal, Selector};

use crate::cli::Cli;
use crate::commands::{root, work};
use crate::consent::Consent;
use crate::error::{Error, Exit};
use crate::gate::Rule;
use crate::push::{Wish, push};
use crate::reach::Reach;
use crate::show;

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, wish: &Wish) -> Result<Exit, Error> {
    work(cli, selector.as_ref(), async |context, chosen| {
        if selector.is_none() && wish.goal.delivers() && !context.fleet.allow_apply_all {
            return Err(Error::new(Exit::Usage, "this fleet is not to be applied as a whole")
                .hint("say which hosts; the hive has `meta.allowApplyAll = false`"));
        }
        let context = match &wish.build_on {
            Some(host) => context.building_on(host).await?,
            None => context,
        };
        let root = root()?;
        // Who names hosts has said what is to be done; and where hosts do not wait for one another, there is no moment to ask.
        let activates = matches!(wish.goal, Goal::Test | Goal::Boot | Goal::Switch);
        let asks =
            selector.is_none() && activates && !wish.yes && wish.rule != Rule::Each && show::can_ask(cli);
        let reach = Reach::find(&context).await?;
        push(context, wish, root, asks.then(Consent::default), reach, chosen).await
    })
    .await
}
