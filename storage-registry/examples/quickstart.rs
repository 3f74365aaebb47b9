//! The Rust example of the workspace's README, word by word: `cargo xtask test` compares and runs both.

use serde::{Deserialize, Serialize};
use storage_registry::{Result, open};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    // "file:./data" keeps it on disk; the rest of the program stays as it is.
    let store = open("memory:").await?;
    let users = store.collection::<User>("users")?;

    let ada = User { name: "Ada".into(), age: 36 };
    users.put("ada", &ada).await?;
    assert_eq!(users.get("ada").await?, Some(ada));

    let grown = users.query(r#"{"age": {"$gte": 18}}"#.parse()?).sort("age:desc".parse()?).page().await?;
    assert_eq!(grown.items[0].value.name, "Ada");

    // Optimistic: what was read is checked when it commits, and a conflict is tried again.
    store
        .transaction(|tx| async move {
            let users = tx.collection::<User>("users")?;
            if let Some(mut ada) = users.get("ada").await? {
                ada.age += 1;
                users.put("ada", &ada)?;
            }
            Ok(())
        })
        .await?;

    let views = store.counters("views")?.increment("home", "today", 1).await?;
    assert_eq!(views, 1);
    store.close().await
}
