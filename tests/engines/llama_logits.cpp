// What the tests ask of llama.cpp beyond what its own tools print.
//   llama-logits MODEL logits IDS OUT     IDS: file of token ids; OUT: float32 logits of every position, one row each
//   llama-logits MODEL greedy IDS COUNT   prints COUNT ids that follow, each the most probable
//   llama-logits MODEL tokens < TEXTS     texts apart by zero bytes; prints the ids of each on a line, special tokens parsed
#include "llama.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

static void quiet(ggml_log_level level, const char * text, void *) {
    if (level >= GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static bool decode(llama_context * context, const std::vector<llama_token> & ids, int first) {
    llama_batch batch = llama_batch_init(ids.size(), 0, 1);
    batch.n_tokens = ids.size();
    for (size_t i = 0; i < ids.size(); i++) {
        batch.token[i] = ids[i];
        batch.pos[i] = first + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    const int status = llama_decode(context, batch);
    llama_batch_free(batch);
    return status == 0;
}

static int tokens(const llama_vocab * vocabulary) {
    std::string text;
    while (std::getline(std::cin, text, '\0')) {
        std::vector<llama_token> ids(text.size() + 16);
        const int count = llama_tokenize(vocabulary, text.data(), text.size(), ids.data(), ids.size(), true, true);
        for (int i = 0; i < count; i++) printf("%d ", ids[i]);
        printf("\n");
    }
    return 0;
}

int main(int argc, char ** argv) {
    if (argc < 3) return 64;
    const std::string mode = argv[2];
    llama_log_set(quiet, nullptr);
    llama_backend_init();
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model_params.vocab_only = mode == "tokens";
    llama_model * model = llama_model_load_from_file(argv[1], model_params);
    if (!model) return 1;
    const llama_vocab * vocabulary = llama_model_get_vocab(model);
    if (mode == "tokens") return tokens(vocabulary);
    if (argc < 5) return 64;
    std::ifstream file(argv[3]);
    std::vector<llama_token> ids((std::istream_iterator<int>(file)), std::istream_iterator<int>());
    const int more = mode == "greedy" ? atoi(argv[4]) : 0;
    llama_context_params params = llama_context_default_params();
    params.n_ctx = ids.size() + more;
    params.n_batch = params.n_ubatch = ids.size();
    params.n_threads = params.n_threads_batch = 1;
    params.type_k = params.type_v = GGML_TYPE_F32;
    params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    llama_context * context = llama_init_from_model(model, params);
    if (!context || !decode(context, ids, 0)) return 2;
    const int width = llama_vocab_n_tokens(vocabulary);
    if (mode == "logits") {
        FILE * out = fopen(argv[4], "wb");
        for (size_t i = 0; i < ids.size(); i++) fwrite(llama_get_logits_ith(context, i), sizeof(float), width, out);
        return fclose(out);
    }
    int last = ids.size() - 1;
    int place = ids.size();
    for (int i = 0; i < more; i++) {
        const float * logits = llama_get_logits_ith(context, last);
        const llama_token next = std::max_element(logits, logits + width) - logits;
        printf("%d ", next);
        if (!decode(context, {next}, place++)) return 2;
        last = 0;
    }
    return 0;
}
