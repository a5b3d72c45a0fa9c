//! `repo webhook`: where a repo's webhook is sent, its secret if a new one is wanted, and what to do at the Git host.

use bellwether_core::api::{CreatedRepo, RepoDocument, webhook_path};
use serde_json::{Value, json};
use url::Url;

use super::Context;
use crate::args::{Format, Provider, RepoWebhookArgs};
use crate::client::{Answer, Route};
use crate::failure::Exit;
use crate::output::table::fields;
use crate::output::{Style, note};

/// What is told of a webhook.
#[derive(Debug)]
struct Webhook {
    url: String,
    secret: Option<String>,
    provider: Provider,
}

pub(super) async fn run(context: &Context, arguments: &RepoWebhookArgs) -> anyhow::Result<Exit> {
    let route = Route::named("repos", &arguments.name);
    let (mut json, repo, secret) = if arguments.rotate {
        let answer: Answer<CreatedRepo> = context.client.post(&route.then("webhook-secret"), &json!({})).await?;
        (answer.json, answer.document.repo, answer.document.webhook_secret)
    } else {
        let answer: Answer<RepoDocument> = context.client.fetch(&route).await?;
        let path = webhook_path(&arguments.name);
        (json!({"repo": answer.json, "webhookSecret": null, "webhookPath": path}), answer.document, None)
    };
    let url = context.client.url_of(&webhook_path(&arguments.name));
    let provider = arguments.provider.unwrap_or_else(|| guess(&repo.spec.url));
    let webhook = Webhook { url, secret, provider };
    if let Some(fields) = json.as_object_mut() {
        let shown = [("webhookUrl", json!(webhook.url)), ("steps", json!(steps(&webhook)))];
        fields.extend(shown.map(|(name, value): (_, Value)| (name.to_owned(), value)));
    }
    context.output.answer(&Answer { json, document: webhook }, draw)?;
    if context.output.document_format()? == Format::Table {
        note(&if arguments.rotate {
            format!("the webhook secret of repo {} is new and is not shown again", arguments.name)
        } else {
            format!("its secret is not shown again; a new one: bellwether repo webhook {} --rotate", arguments.name)
        });
    }
    Ok(Exit::Done)
}

/// By the host's name, which people who have a host of their own often give it too.
fn guess(repo_url: &str) -> Provider {
    let host = Url::parse(repo_url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    // `git@HOST:PATH` is no URL.
    let host = if host.is_empty() { repo_url.split(':').next().unwrap_or_default().to_owned() } else { host };
    let known = [
        ("github", Provider::Github),
        ("gitlab", Provider::Gitlab),
        ("codeberg.org", Provider::Forgejo),
        ("forgejo", Provider::Forgejo),
        ("gitea", Provider::Gitea),
        ("bitbucket.org", Provider::BitbucketCloud),
        ("bitbucket", Provider::BitbucketServer),
        ("dev.azure.com", Provider::AzureDevops),
        ("visualstudio.com", Provider::AzureDevops),
    ];
    known.iter().find(|(part, _)| host.contains(part)).map_or(Provider::Generic, |(_, provider)| *provider)
}

fn draw(webhook: &Webhook, style: Style) -> String {
    let mut pairs = vec![("webhook URL", webhook.url.as_str().into())];
    if let Some(secret) = &webhook.secret {
        pairs.push(("webhook secret", secret.as_str().into()));
    }
    if let (Provider::Gitlab, Some(token)) = (webhook.provider, webhook.secret.as_deref().and_then(signing_token)) {
        pairs.push(("signing token", token.into()));
    }
    let steps: Vec<_> = steps(webhook).iter().enumerate().map(|(at, step)| format!("{}. {step}", at + 1)).collect();
    format!("{}\n\n{}", fields(pairs, style), steps.join("\n"))
}

/// The secret as GitLab writes one that it signs with: the same 32 bytes.
fn signing_token(secret: &str) -> Option<String> {
    let digits = secret.strip_prefix("bww_")?;
    Some(format!("whsec_{}=", digits.replace('-', "+").replace('_', "/")))
}

fn steps(webhook: &Webhook) -> Vec<String> {
    let Webhook { url, provider, .. } = webhook;
    let steps: &[&str] = match provider {
        Provider::Github => &[
            "In the repository: Settings > Webhooks > Add webhook.",
            "Payload URL: URL",
            "Content type: application/json. Secret: the webhook secret.",
            "Just the push event. GitHub sends a ping at once, which is answered with 200.",
        ],
        Provider::Gitlab => &[
            "In the project: Settings > Webhooks > Add new webhook.",
            "URL: URL",
            "Secret token: the webhook secret. Where the webhook is made by GitLab's API (19.0 or later), give the signing \
             token as `signing_token` instead, so that no secret is sent.",
            "Trigger: Push events and Tag push events. Test > Push events shows the answer.",
        ],
        Provider::Gitea | Provider::Forgejo => &[
            "In the repository: Settings > Webhooks > Add webhook, of the host's own kind.",
            "Target URL: URL",
            "Method: POST. Content type: application/json (a form is signed otherwise and refused). Secret: the webhook \
             secret.",
            "Trigger on: push events; add branch and tag deletion to hear of those at once.",
        ],
        Provider::BitbucketCloud => &[
            "In the repository: Repository settings > Webhooks > Add webhook.",
            "URL: URL",
            "Secret: the webhook secret. Triggers: Repository push.",
        ],
        Provider::BitbucketServer => &[
            "In the repository: Repository settings > Webhooks > Create webhook.",
            "URL: URL",
            "Secret: the webhook secret. Events: Repository, Push. Test connection is answered with 200.",
        ],
        Provider::AzureDevops => &[
            "In the project: Project settings > Service hooks > Create subscription > Web Hooks.",
            "Trigger: Code pushed, of this repository.",
            "URL: URL",
            "Basic authentication username: bellwether. Password: the webhook secret.",
            "Resource details to send: All. Messages to send: None.",
        ],
        Provider::Generic => &[
            "After each push, send a POST to URL",
            "With the header X-Signature: sha256=HEX, the HMAC-SHA256 of the body with the webhook secret.",
            "The body is {} or, so that only a push that a target follows has the repo fetched, \
             {\"ref\": \"refs/heads/main\", \"commit\": \"…\"}.",
        ],
    };
    steps
        .iter()
        .map(|step| step.replace("URL: URL", &format!("URL: {url}")).replace("to URL", &format!("to {url}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn the_host_is_guessed_from_the_repo() {
        for (url, provider) in [
            ("https://github.com/acme/apps.git", Provider::Github),
            ("https://gitlab.example.org/acme/apps", Provider::Gitlab),
            ("git@gitlab.com:acme/apps.git", Provider::Gitlab),
            ("https://codeberg.org/acme/apps", Provider::Forgejo),
            ("https://bitbucket.org/acme/apps", Provider::BitbucketCloud),
            ("https://bitbucket.example.org/scm/acme/apps.git", Provider::BitbucketServer),
            ("https://dev.azure.com/acme/p/_git/apps", Provider::AzureDevops),
            ("https://git.example.org/github/apps.git", Provider::Generic),
        ] {
            assert_eq!(guess(url), provider, "{url}");
        }
    }

    #[test]
    fn the_steps_of_every_host_name_the_url_and_what_becomes_of_the_secret() {
        for provider in Provider::value_variants() {
            let url = "https://hub.example.org/hooks/v1/apps".to_owned();
            let webhook = Webhook { url: url.clone(), secret: Some("bww_s3cret".to_owned()), provider: *provider };

            let text = draw(&webhook, Style::default());

            assert!(text.matches(&url).count() == 2 && text.contains("bww_s3cret"), "{text}");
            assert!(text.contains("webhook secret") && !text.contains("URL: URL"), "{text}");
            assert_eq!(text.contains("whsec_s3cret="), *provider == Provider::Gitlab, "{text}");
        }
    }
}
