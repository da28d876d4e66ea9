// llama.cpp without Python, for a process that may crash and for machines that have no Python: a board, an emulator.
//
//     edge-llama quantize SOURCE TARGET FILE_TYPE THREADS
//     edge-llama answer MODEL PROMPT TOKENS THREADS      greedy; prints one line of JSON: ids and seconds
//
// PROMPT, as edge.runtime.program writes it, little-endian: three int32 (positions T, width D, rows R), T int32 ids, of
// which -1 stands for the next row, then R x D float32 rows.
#include "llama.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

struct Prompt {
    std::vector<int32_t> ids;
    std::vector<float> rows;
    int32_t width = 0;
};

[[noreturn]] static void fail(const std::string & message) {
    fprintf(stderr, "error: %s\n", message.c_str());
    exit(2);
}

static Prompt read_prompt(const char * path) {
    std::ifstream file(path, std::ios::binary);
    int32_t sizes[3] = {0, 0, 0};
    file.read(reinterpret_cast<char *>(sizes), sizeof(sizes));
    if (!file || sizes[0] <= 0 || sizes[1] < 0 || sizes[2] < 0) {
        fail(std::string(path) + " is not a prompt; expected three sizes, ids and rows; write it again");
    }
    Prompt prompt;
    prompt.width = sizes[1];
    prompt.ids.resize(sizes[0]);
    prompt.rows.resize(static_cast<size_t>(sizes[1]) * sizes[2]);
    file.read(reinterpret_cast<char *>(prompt.ids.data()), prompt.ids.size() * sizeof(int32_t));
    file.read(reinterpret_cast<char *>(prompt.rows.data()), prompt.rows.size() * sizeof(float));
    if (!file || std::count(prompt.ids.begin(), prompt.ids.end(), -1) != sizes[2]) {
        fail(std::string(path) + " is cut short, or its rows are not those of its ids; write it again");
    }
    return prompt;
}

// Positions follow from the cache, and logits are kept of the last position only.
static void decode(llama_context * context, llama_token * tokens, float * rows, int32_t count) {
    llama_batch batch = {count, tokens, rows, nullptr, nullptr, nullptr, nullptr};
    if (const int32_t status = llama_decode(context, batch)) {
        fail("llama.cpp could not decode: status " + std::to_string(status));
    }
}

static void feed(llama_context * context, Prompt & prompt) {
    const size_t limit = llama_n_batch(context);
    size_t row = 0;
    for (size_t start = 0, end; start < prompt.ids.size(); start = end) {
        const bool is_row = prompt.ids[start] == -1;
        for (end = start + 1; end < prompt.ids.size() && end - start < limit; end++) {
            if ((prompt.ids[end] == -1) != is_row) {
                break;
            }
        }
        if (is_row) {
            decode(context, nullptr, prompt.rows.data() + row * prompt.width, end - start);
            row += end - start;
        } else {
            decode(context, prompt.ids.data() + start, nullptr, end - start);
        }
    }
}

static void quantize(const char * source, const char * target, int32_t file_type, int32_t threads) {
    llama_model_quantize_params params = llama_model_quantize_default_params();
    params.ftype = static_cast<llama_ftype>(file_type);
    params.nthread = threads;
    if (llama_model_quantize(source, target, &params) != 0) {
        fail(std::string(source) + " could not be quantized");
    }
}

static void answer(const char * file, Prompt prompt, int32_t tokens, int32_t threads) {
    llama_model * model = llama_model_load_from_file(file, llama_model_default_params());
    if (model == nullptr) {
        fail(std::string(file) + " could not be loaded");
    }
    if (!prompt.rows.empty() && prompt.width != llama_model_n_embd(model)) {
        fail("rows are " + std::to_string(prompt.width) + " wide, the model is " +
             std::to_string(llama_model_n_embd(model)));
    }
    llama_context_params params = llama_context_default_params();
    params.n_ctx = prompt.ids.size() + tokens;
    params.n_threads = params.n_threads_batch = threads;
    llama_context * context = llama_init_from_model(model, params);
    if (context == nullptr) {
        fail("llama.cpp could not make a context");
    }

    using clock = std::chrono::steady_clock;
    const auto start = clock::now();
    feed(context, prompt);
    const auto prompted = clock::now();
    const int32_t vocabulary = llama_vocab_n_tokens(llama_model_get_vocab(model));
    std::vector<llama_token> ids;
    for (int32_t step = 0; step < tokens; step++) {
        const float * logits = llama_get_logits_ith(context, -1);
        ids.push_back(std::max_element(logits, logits + vocabulary) - logits);
        decode(context, &ids.back(), nullptr, 1);
    }
    const auto end = clock::now();

    printf("{\"ids\": [");
    for (size_t index = 0; index < ids.size(); index++) {
        printf("%s%d", index == 0 ? "" : ", ", ids[index]);
    }
    const std::chrono::duration<double> prompt_seconds = prompted - start, seconds = end - prompted;
    printf("], \"prompt_tokens\": %zu, \"prompt_seconds\": %.6f, \"seconds\": %.6f}\n", prompt.ids.size(),
           prompt_seconds.count(), seconds.count());
    llama_free(context);
    llama_model_free(model);
}

int main(int argc, char ** argv) {
    const std::string command = argc == 6 ? argv[1] : "";
    if (command != "quantize" && command != "answer") {
        fail("expected: quantize SOURCE TARGET FILE_TYPE THREADS, or: answer MODEL PROMPT TOKENS THREADS");
    }
    const int32_t number = atoi(argv[4]), threads = atoi(argv[5]);
    if (number < 1 || threads < 1) {
        fail("the last two must be at least 1");
    }
    llama_log_set(
        [](ggml_log_level level, const char * text, void *) {
            if (level == GGML_LOG_LEVEL_ERROR) {
                fputs(text, stderr);
            }
        },
        nullptr);
    llama_backend_init();
    if (command == "quantize") {
        quantize(argv[2], argv[3], number, threads);
    } else {
        answer(argv[2], read_prompt(argv[3]), number, threads);
    }
    return 0;
}
