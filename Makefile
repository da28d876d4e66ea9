# One target per stage, each in its own process. `make help` lists targets and settings.
#
#   make demo                                                     the whole pipeline, on the embedded scenes and models
#   make generate feedback CONFIG=configs/photos.yaml             two stages, on other data
#   make demo RUN=runs/seed-1 SET="seed=1 dpo.trainer.beta=0.2"   changed values, in another run folder

CONFIG ?= configs/demo.yaml## configuration file of the run; default configs/demo.yaml
RUN ?= runs/$(basename $(notdir $(CONFIG)))## run folder; default: runs/ and the name of CONFIG, such as runs/demo
SET ?=## changes to CONFIG: "section.key=value section.key=value", values without spaces (others belong in the YAML file)
N ?= 16## answers per prompt of `make best-of-n`, default 16; claims, and as many pairs, of `make audit`, default 200
ROUNDS ?= 4## rounds of `make rounds`; default 4
NAME ?= pope## benchmark of `make benchmark`: chair, amber, pope or mmhal; default pope
FORMAT ?=## format of `make export`: trl, rlaif-v, llama-factory or ms-swift, default trl; of `make report`: html or png, default html
DATA ?=## what `make import` reads: a file, a folder or a hub id; only from the command line, not the environment
LAYOUT ?=## layout of DATA: rlaif-v, messages, conversations, mm-rlhf, mmpr, rlhf-v, ms-swift or responses; default: by its columns
PUSH ?=## dataset on the hub, owner/name, to which `make export` also pushes; only from the command line, not the environment
STAGE ?= 1## stage of `make pretrain`: 1, 2 or 3; default 1
PART ?= 1## part of `make sft`: 1 or 2; default 1
LLM ?= meta-llama/Meta-Llama-3-8B-Instruct## language model of `make assemble`: a folder or hub id
VISION ?= google/siglip-so400m-patch14-384## vision encoder of `make assemble`: a folder or hub id
PROCESSES ?=## processes of DPO (also of `make rounds`) and of training, one a GPU (on a machine without GPUs, on its CPU); default 1
SHARDING ?=## how the processes share the model: ddp, fsdp2, zero2, zero3, or a file of accelerate; default ddp, a copy for each
LAUNCH ?=## launcher of DPO and of training on several machines, instead of PROCESSES: ".venv/bin/accelerate launch --config_file FILE -m"
GPU_MEMORY ?=## memory of a GPU in GiB for `make plan`; default that of this machine, or 80
SEED ?=## seed of the sample of `make audit`; default that of the audit that is there, or of the run; only from the command line
OTHER ?=## another run folder that `make browse` and `make screenshots` show beside RUN
RUNS ?=## run folders of `make compare-labelers` (two) and of `make results`: "runs/a runs/b"
AUDITS ?=## run or folder with the test set of `make export-audit`, on which `make compare-labelers` tries the labeler of CONFIG
SPLITS ?=## splits of other answers for `make checks`, as JSON lines: instruction, response, claims
MODEL ?=## model of `make serve`: a folder or hub id; default the labeler of CONFIG
HOST ?= 127.0.0.1## address that `make serve` and `make edge-serve` bind to; default 127.0.0.1, this machine only
PORT ?= 8000## port of `make serve`, `make edge-serve`, and of `make browse` and `make audit` (or the next free one); default 8000
QUANT ?= Q4_K_M## quantization of the language model of `make export-edge`: f16, Q8_0, Q6_K, Q4_K_M, Q4_0, or several in quotes; default Q4_K_M
IMAGE ?=## picture of `make edge-answer`: a file
TEXT ?= Describe this image.## question or instruction of `make edge-answer`
JOINT ?=## JOINT=1: `make edge-answer` keeps both parts in memory, to compare the peaks
DEVICE ?= cpu## where the exported vision encoder runs: cpu, openvino, openvino-npu, qnn (fp16), qnn-a16w8 or torch; default cpu
SOC ?= snapdragon-8-gen-3## Snapdragon of `make edge-vision` and of DEVICE=qnn (an unknown name lists all); default snapdragon-8-gen-3
TARGET ?= host## what `make edge-runtime` compiles llama.cpp for: host, portable, avx2, avx512 or aarch64; default host
WORKERS ?= 2## parallel processes of `make test`; default 2
SECTION ?=## section of `make help-config`, such as data or dpo.lora; default all
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)## interpreter for .venv/: 3.11 (tested), 3.12 or 3.13

VENV := .venv/bin
quoted = '$(subst ','\'',$(1))'# a word of the shell
path = $(call quoted,$(patsubst ~/%,$(HOME)/%,$(1)))# a file or folder as a word of the shell, whatever is in its name
CHANGES = $(if $(strip $(SET)),--set $(foreach change,$(SET),'$(change)'))
STAGE_ARGS = --config $(call path,$(CONFIG)) --run $(call path,$(RUN)) $(CHANGES)
BIND = $(if $(filter environment,$(origin HOST)),127.0.0.1,$(HOST))# not from the environment: some shells export HOST
PYTEST = $(VENV)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
TRAIN_CONFIG = $(if $(filter file,$(origin CONFIG)),configs/training/$(1).yaml,$(CONFIG))
TRAIN_RUN = $(if $(filter file,$(origin RUN)),runs/training/$(basename $(notdir $(TRAIN_CONFIG))),$(RUN))
LAUNCHING = --processes '$(PROCESSES)' --sharding '$(SHARDING)' --launch '$(LAUNCH)'
LAUNCHER = $(if $(strip $(PROCESSES)$(SHARDING)),$(VENV)/python -m rlaif.launch $(LAUNCHING),$(if $(strip $(LAUNCH)),$(LAUNCH),$(VENV)/python -m))
TRAIN = $(LAUNCHER) training --config $(call path,$(TRAIN_CONFIG)) --run $(call path,$(TRAIN_RUN)) $(CHANGES)
STAGES := pretrain-1 pretrain-2 pretrain-3 sft-1 sft-2 policy verifier labeler
# sampling from the embedded policy, whose errors the embedded labeler learns to see
ANSWERS := seed=1000 policy.model=runs/training/policy/model data.train_prompts=32000 data.test_prompts=0 generation.num_responses=4
BUILD := $(if $(shell command -v nvidia-smi),cuda,cpu)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help help-config setup demo generate import feedback dpo evaluate benchmark report browse audit export edge-vision plan export-edge edge-runtime edge-answer edge-serve edge-check edge-tune best-of-n rounds ablations compare-labelers export-audit serve language-model encoder assemble pretrain sft rewriter rewrite-captions embedded-models training-table bench bench-pairs bench-browse bench-growth bench-full-size bench-edge cost injections checks results figures pair-picture screenshots docs test test-fast lint check clean

help: ## list targets and settings
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile
	@echo
	@awk -F ' [?]=|## ' '/^[A-Z_]+ [?]=/ { printf "  %-21s %s\n", $$1 "=", $$3 }' Makefile

help-config: .venv/.ready ## list configuration keys with type, default and description; SECTION=data shows one section
	@$(VENV)/python -m rlaif.config.describe --section '$(SECTION)'

setup: .venv/.ready ## create .venv/ with the CPU or CUDA build of vLLM, whichever fits the machine (other targets do this too)
demo: generate feedback dpo evaluate report ## the whole pipeline: generate, feedback, dpo, evaluate, report

generate: .venv/.ready ## prompts -> responses: sample several responses per prompt from the policy
	@$(VENV)/python -m generation $(STAGE_ARGS)

import: RUN := $(if $(filter file,$(origin RUN)),runs/import,$(RUN))
import: .venv/.ready ## preference pairs or responses of others -> a run: DATA=FILE_OR_HUB_ID, then `make dpo` or `make feedback`
	@$(VENV)/python -m rlaif.interchange.importer $(STAGE_ARGS) --set data.source=import $(if $(filter command,$(origin DATA)),'data.path=$(DATA)') $(if $(LAYOUT),data.layout=$(LAYOUT))

feedback: .venv/.ready ## responses -> claims -> verdicts -> pairs, with the labeler
	@$(VENV)/python -m feedback $(STAGE_ARGS)

dpo: .venv/.ready ## pairs -> aligned policy in RUN/policy
	@$(LAUNCHER) dpo $(STAGE_ARGS)

evaluate: .venv/.ready ## measure hallucination, recall and length before and after DPO, and the labeler's accuracy where the truth is known or people were asked
	@$(VENV)/python -m evaluation $(STAGE_ARGS)

benchmark: .venv/.ready ## run a public benchmark before and after DPO: NAME=chair, amber, pope or mmhal (on the scenes, or SET="benchmark.path=FOLDER")
	@$(VENV)/python -m evaluation.benchmarks $(STAGE_ARGS) --set 'benchmark.name=$(NAME)'

report: .venv/.ready ## write RUN/report.html, one page on the whole run; FORMAT=png writes its charts into RUN/figures
	@$(VENV)/python -m rlaif.report $(STAGE_ARGS) $(if $(FORMAT),--format '$(FORMAT)')

browse: .venv/.ready ## browse pairs, prompts and dropped rows of RUN in a web browser, and watch its stages: OTHER= another run, PORT=
	@$(VENV)/python -m browser --run $(call path,$(RUN)) $(if $(OTHER),--other $(call path,$(OTHER))) --port '$(PORT)'

audit: N := $(if $(filter file,$(origin N)),200,$(N))
audit: .venv/.ready ## ask people about N claims and N pairs of RUN, by keys in a web browser, and save their verdicts in RUN: SEED=, PORT=
	@$(VENV)/python -m browser.audit --run $(call path,$(RUN)) --count '$(N)' $(if $(filter command,$(origin SEED)),--seed '$(SEED)') --port '$(PORT)'

export: .venv/.ready ## export pairs for other tools, with a dataset card: FORMAT=trl, rlaif-v, llama-factory or ms-swift
	@$(VENV)/python -m rlaif.interchange $(STAGE_ARGS) $(if $(FORMAT),--set export.format=$(FORMAT)) $(if $(filter command,$(origin PUSH)),--set export.push=$(PUSH))

edge-vision: .venv/.edge-ready ## the vision encoder of RUN's policy for CPUs, Intel NPUs and the Snapdragon SOC=, into RUN/edge
	@$(VENV)/python -m edge.vision $(STAGE_ARGS) --soc '$(SOC)'

plan: .venv/.ready ## reckon memory and hours of CONFIG, a run or a training stage, before anything runs: GPU_MEMORY=80 PROCESSES=8 SHARDING=fsdp2
	@$(VENV)/python -m rlaif.pipelines.plan --config $(call path,$(CONFIG)) --gpu-memory '$(GPU_MEMORY)' --processes '$(PROCESSES)' --sharding '$(SHARDING)' $(CHANGES)

export-edge: .venv/.edge-ready ## write the policy of RUN for llama.cpp into RUN/edge: QUANT="Q4_K_M Q8_0", mmproj, Ollama's Modelfile, a card
	@$(VENV)/python -m edge.gguf $(STAGE_ARGS) --quant '$(QUANT)'

edge-runtime: .venv/.edge-ready ## compile llama.cpp for this machine into .edge/ (minutes), and compare the builds: TARGET=host, portable, avx2, avx512 or aarch64
	@$(VENV)/python -m edge.runtime --target '$(TARGET)'

edge-answer: .venv/.edge-ready ## answer TEXT about IMAGE with RUN's export, first the vision part, then the language model: QUANT=, DEVICE=; JOINT=1 keeps both
	@$(VENV)/python -m edge.answer $(STAGE_ARGS) --image $(call quoted,$(value IMAGE)) --text $(call quoted,$(value TEXT)) --quant '$(QUANT)' --device '$(DEVICE)' --soc '$(SOC)' $(if $(JOINT),--joint)

edge-serve: .venv/.edge-ready ## serve RUN's export with the stock server of llama.cpp, for OpenAI clients and as a labeler: QUANT=, PORT=, HOST=
	@$(VENV)/python -m edge.serve $(STAGE_ARGS) --quant '$(QUANT)' --host $(BIND) --port $(PORT)

edge-check: .venv/.edge-ready ## compare every export of RUN with its policy on pictures: answers, KL, features, size, memory, speed, hallucination
	@$(VENV)/python -m edge.check $(STAGE_ARGS)

edge-tune: .venv/.edge-ready ## search the settings with which this machine runs the export QUANT= of RUN fastest; edge-answer and edge-serve use them
	@$(VENV)/python -m edge.tuning $(STAGE_ARGS) --quant '$(QUANT)'

best-of-n: .venv/.ready ## best of N answers of RUN's policy to each test prompt, by its reward, its likelihood and the labeler's score, in RUN/best-of-n
	@$(VENV)/python -m rlaif.pipelines.best_of_n $(STAGE_ARGS) --set best_of=$(N)

rounds: CONFIG := $(if $(filter file,$(origin CONFIG)),configs/rounds.yaml,$(CONFIG))
rounds: .venv/.ready ## ROUNDS rounds of alignment, each from the policy of the previous one; evaluates the best on validation on the test split
	@$(VENV)/python -m rlaif.pipelines.rounds $(STAGE_ARGS) --set rounds=$(ROUNDS) $(LAUNCHING)

ablations: CONFIG := $(if $(filter file,$(origin CONFIG)),configs/ablations.yaml,$(CONFIG))
ablations: .venv/.ready ## ablations: runs that differ in one setting each, in one table
	@$(VENV)/python -m rlaif.pipelines.ablations $(STAGE_ARGS) $(LAUNCHING)

compare-labelers: .venv/.ready ## compare two labelers on the same responses, RUNS="runs/a runs/b": agreement, calibration, cost; or AUDITS=runs/a with the labeler of CONFIG
	@$(if $(and $(AUDITS),$(RUNS)),echo 'error: got AUDITS and RUNS; give AUDITS to try the labeler of CONFIG on audited claims or RUNS to compare two runs' >&2; exit 2)
	@$(VENV)/python $(if $(AUDITS),-m evaluation.audit.read_back --audits $(call path,$(AUDITS)) --config $(call path,$(CONFIG)) $(CHANGES),-m evaluation.compare_labelers $(RUNS))

export-audit: .venv/.ready ## write the claims of RUN that people have judged as a test set for labelers, with pictures: RUN/audited_claims.parquet
	@$(VENV)/python -m evaluation.audit.export --run $(call path,$(RUN))

serve: .venv/.ready ## serve a model, by default the labeler of CONFIG, as an OpenAI-compatible endpoint: MODEL=, PORT=; reachable from other machines only with HOST=
	@$(VENV)/python -m rlaif.inference.serve --config $(call path,$(CONFIG)) $(if $(MODEL),--model "$(MODEL)") --host $(BIND) --port $(PORT) $(CHANGES)

language-model: .venv/.ready ## train the language model of the embedded models on texts, into runs/training/language-2
	@$(VENV)/python -m scenes.recipe.tables --out runs/training/data
	@test -f runs/training/random/config.json || $(VENV)/python -m scenes.recipe.start --out runs/training/random
	@$(call TRAIN,language-1) && $(call TRAIN,language-2)

encoder: .venv/.ready ## train the vision encoder of the embedded models on pictures and short texts: the start model runs/training/start/model
	@$(LAUNCHER) training.encoder --config $(call path,$(call TRAIN_CONFIG,encoder)) --run $(call path,$(if $(filter file,$(origin RUN)),runs/training/start,$(RUN))) $(CHANGES)

assemble: .venv/.ready ## assemble the full-size start model runs/training/start/model from the language model LLM= and the SigLIP encoder VISION=
	@$(VENV)/python -m training.assemble --llm "$(LLM)" --vision "$(VISION)" --out runs/training/start/model

pretrain: .venv/.ready ## pre-training as in the MiniCPM-V paper: STAGE=1, 2 or 3
	@$(call TRAIN,pretrain-$(STAGE))

sft: .venv/.ready ## supervised fine-tuning as in the MiniCPM-V paper: PART=1 (recognition), then 2 (long answers, instructions)
	@$(call TRAIN,sft-$(PART))

rewriter: .venv/.ready ## fine-tune the caption rewriter on runs/captions/seeds.parquet (written from the embedded scenes if missing)
	@test -f runs/captions/seeds.parquet || $(VENV)/python -m scenes.recipe.raw_captions --out runs/captions
	@$(call TRAIN,rewriter)

rewrite-captions: CONFIG := $(if $(filter file,$(origin CONFIG)),configs/rewrite.yaml,$(CONFIG))
rewrite-captions: .venv/.ready ## rewrite raw captions into a training table, and count their errors where the truth is known
	@$(if $(filter configs/rewrite.yaml,$(CONFIG)),test -f runs/captions/raw.parquet || $(VENV)/python -m scenes.recipe.raw_captions --out runs/captions)
	@$(VENV)/python -m generation.rewrite $(STAGE_ARGS)
	@$(VENV)/python -m evaluation.caption_errors $(STAGE_ARGS)

embedded-models: language-model encoder rewriter ## retrain the models in assets/ from scratch: every stage in order, then policy, labeler, rewriter (hours)
	@$(foreach stage,$(filter-out labeler,$(STAGES)),$(call TRAIN,$(stage)) && )$(VENV)/python -m generation --config configs/demo.yaml --run runs/training/answers $(addprefix --set ,$(ANSWERS))
	@$(VENV)/python -m scenes.recipe.answers runs/training/answers --out runs/training/data/answers.parquet
	@$(call TRAIN,labeler)
	@$(VENV)/python -m scenes.recipe.ship runs/training/policy runs/training/labeler runs/training/rewriter --out assets

training-table: .venv/.ready ## evaluate each training stage: hallucination, recall, yes/no questions, signs, with and without slices
	@$(VENV)/python -m scenes.recipe.training_table runs/training/start $(STAGES:%=runs/training/%)

bench: .venv/.ready ## benchmark our implementations against the usual ones, into bench/results: all, or NAME=dpo_full (an unknown name lists all)
	@$(VENV)/python -m bench $(if $(filter file,$(origin NAME)),,$(NAME))

bench-pairs: .venv/.ready ## benchmark pair building up to a million responses, against the RLAIF-V code: rows per second, peak memory (minutes)
	@$(VENV)/python -m bench.comparisons.pairs

bench-browse: .venv/.ready ## time the pages of `make browse` on a run with 100,000 pairs (minutes)
	@$(VENV)/python -m bench.comparisons.browse

bench-growth: .venv/.ready ## time each stage by number of images (100 to 800) and of slices (half an hour)
	@$(VENV)/python -m bench.growth

bench-full-size: .venv/.ready ## measure the 8.5B model on one GPU in 12 minutes: sampling, verifying, DPO, SFT, pre-training 3 (without a GPU: a test with a small model)
	@$(VENV)/python -m bench.full_size

bench-edge: .venv/.edge-ready ## measure the memory of an export in sequence and at once, and what each difference of stock llama.cpp costs (minutes)
	@$(VENV)/python -m bench.comparisons.edge_memory
	@$(VENV)/python -m bench.comparisons.stock_llama_cpp

cost: .venv/.ready ## estimate the cost of 100,000 images on 1, 8 and 64 GPUs, with bottlenecks, from rates measured on this machine
	@$(VENV)/python -m bench.cost_estimate

injections: .venv/.ready ## test the labeler with prompt injections in responses and images: does it accept more false claims?
	@$(VENV)/python -m bench.injections --config $(call path,$(CONFIG))

checks: .venv/.ready ## measure the two checks of claims, by words and by the labeler, on the responses of RUN: what each stops, its cost
	@$(VENV)/python -m bench.checks --config $(call path,$(CONFIG)) --run $(call path,$(RUN)) $(if $(SPLITS),--splits '$(SPLITS)')

results: .venv/.ready ## record figures of finished runs, or of a command's output, in docs/results: NAME=demo RUNS="runs/demo runs/seed-1"
	@$(if $(and $(RUNS),$(filter-out file,$(origin NAME))),$(VENV)/python -m bench.record $(NAME) $(RUNS),echo 'error: give NAME, the result to record, and RUNS, run folders or files with output: make results NAME=demo RUNS="runs/demo runs/seed-1"' >&2; exit 2)

figures: .venv/.ready ## update tables, figures and the chart in README and docs/ from docs/results/*.json
	@$(VENV)/python -m bench.figures

pair-picture: .venv/.ready ## draw one pair of RUN with its claims, as docs/assets/pair.svg
	@$(VENV)/python -m rlaif.report.picture --config $(call path,$(CONFIG)) --run $(call path,$(RUN)) --out docs/assets/pair.svg

screenshots: .venv/.ready ## take pictures of the pages of browse and audit for docs/, with Chromium, of RUN and OTHER, a run of the same prompts
	@$(VENV)/python -m bench.figures.screenshots --run $(call path,$(RUN)) --other $(call path,$(OTHER))

docs: .venv/.docs-ready ## build the documentation into site/; warnings and dead links are errors
	@NO_MKDOCS_2_WARNING=1 $(VENV)/mkdocs build --strict --quiet
	@echo "docs: open site/index.html"

test: .venv/.ready ## run all tests in WORKERS processes
	@$(PYTEST)

test-fast: .venv/.ready ## run the tests that need no engine, within a minute
	@$(PYTEST) -m "not engine and not slow"

lint: .venv/.ready ## check style, format and types with ruff and mypy
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

check: lint ## lint and the fast tests: run it before each commit
	$(PYTEST) -m "not engine and not slow"

clean: ## remove .venv/ and caches, but not runs/ and .edge/, the compiled llama.cpp
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
	@if [ -e .edge ]; then echo "clean: .edge/ (compiled llama.cpp) is kept; remove it by hand: rm -rf .edge"; fi

# ----- setup: .venv/.ready is newer than the requirements once they are installed

TORCH := $(shell grep '^torch==' requirements/cpu.txt)
CUDA := 13# of torch 2.13's build
DRIVER := 580# the first that runs it
PIP_INSTALL := $(VENV)/python -m pip --disable-pip-version-check install

.venv/.ready: pyproject.toml $(filter-out %/docs.txt %/edge.txt,$(wildcard requirements/*.txt))
	@echo "setup: .venv/ with the $(BUILD) build of vLLM (about 170 packages; some minutes on a fresh machine)"
	@$(MAKE) --no-print-directory .check-python
	$(PYTHON) -m venv .venv
	$(MAKE) --no-print-directory .install-$(BUILD)
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@
	@echo "setup: done; next: make demo"

.venv/.docs-ready: .venv/.ready requirements/docs.txt
	$(PIP_INSTALL) --quiet --no-deps -r requirements/docs.txt
	@touch $@

# the bindings first and without the cache: pip would keep this wheel without llama.cpp for others who install the package
LLAMA_CPP := $(shell grep -o '^llama-cpp-python==[^ ]*' requirements/edge.txt)
.venv/.edge-ready: .venv/.ready requirements/edge.txt
	@echo "setup: packages for edge/ (about 300 MB; a minute)"
	$(PIP_INSTALL) --quiet --no-deps --no-cache-dir --config-settings wheel.cmake=false $(LLAMA_CPP)
	$(PIP_INSTALL) --quiet --no-deps -r requirements/edge.txt
	@touch $@

.PHONY: .check-python .check-driver .install-cpu .install-cuda
.check-python:
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || exit 2; case "$$version" in \
		3.11) ;; \
		3.12 | 3.13) echo "setup: $(PYTHON) is Python $$version, which should work; the tests are run with 3.11" ;; \
		*) echo "error: $(PYTHON) is Python $$version; give one from 3.11 to 3.13: make setup PYTHON=/path/to/python3.11" >&2; exit 2 ;; \
	esac

.install-cpu:
	$(PIP_INSTALL) --no-deps $(TORCH) \
		|| { echo "setup: the package index has no $(TORCH); installing it from PyTorch's index"; \
		     $(PIP_INSTALL) --no-deps $(TORCH) --index-url https://download.pytorch.org/whl/cpu; }
	$(PIP_INSTALL) --no-deps -r requirements/cpu.txt

# the newest CUDA that the driver runs, as nvidia-smi prints it; PyTorch's builds need their own version at least
.check-driver:
	@version=$$(nvidia-smi 2>&1 | sed -n 's/.*CUDA Version: *\([0-9]*\)\.\([0-9]*\).*/\1.\2/p' | head -1); \
	if [ -z "$$version" ]; then \
		echo "error: nvidia-smi does not say which CUDA the driver runs ($$(nvidia-smi 2>&1 | head -1)); repair the driver, or install the CPU build: make setup BUILD=cpu" >&2; exit 2; \
	elif [ "$${version%%.*}" -lt $(CUDA) ]; then \
		echo "error: the NVIDIA driver runs CUDA up to $$version, but torch 2.13 is built for CUDA $(CUDA); install a driver of branch $(DRIVER) or newer, or the CPU build: make setup BUILD=cpu" >&2; exit 2; \
	fi

.install-cuda: .check-driver
	$(PIP_INSTALL) -r requirements/cuda.txt
