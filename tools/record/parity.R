# The R side of record_parity.py, which calls it in a folder with three files:
#   pcs.csv       cells x PCs, no names
#   cells.csv     the column condition
#   runs.csv      a run per row: seed, max_iter, epsilon (its harmony tolerance)
# It writes 1.csv, 2.csv, ... (the corrected PCs of each run), done.csv (rounds, seconds and
# theta of each run), formals.csv (arguments and defaults) and errors.csv (what older calls get to
# hear).

suppressMessages({
  library(harmony)
  library(Seurat)
})

pcs <- as.matrix(read.csv("pcs.csv", header = FALSE))
cells <- read.csv("cells.csv")
runs <- read.csv("runs.csv")

done <- data.frame(rounds = integer(), seconds = numeric(), theta = numeric()) # seconds of CPU
for (number in seq_len(nrow(runs))) {
  run <- runs[number, ]
  set.seed(run$seed)
  seconds <- system.time(
    result <- RunHarmony(
      pcs, cells, "condition",
      max_iter = run$max_iter,
      .options = harmony_options(epsilon.harmony = run$epsilon),
      return_object = TRUE, verbose = FALSE
    )
  )
  corrected <- t(result$getZcorr())
  write.table(corrected, paste0(number, ".csv"), sep = ",", row.names = FALSE, col.names = FALSE)
  done[number, ] <- list(length(result$kmeans_rounds), sum(seconds[1:2]), result$theta[1])
}
write.csv(done, "done.csv", row.names = FALSE)

# --- arguments --------------------------------------------------------------------------------

arguments <- function(name, method) {
  defaults <- vapply(formals(method), function(value) paste(deparse(value), collapse = ""), "")
  data.frame(method = name, argument = names(defaults), default = unname(defaults))
}
write.csv(
  rbind(
    arguments("RunHarmony.default", getS3method("RunHarmony", "default")),
    arguments("RunHarmony.Seurat", getS3method("RunHarmony", "Seurat")),
    arguments("harmony_options", harmony_options)
  ),
  "formals.csv",
  row.names = FALSE
)

# --- what older calls get to hear -------------------------------------------------------------

rownames(pcs) <- rownames(cells) <- paste0("cell", seq_len(nrow(pcs)))
colnames(pcs) <- paste0("PC_", seq_len(ncol(pcs)))
zeros <- matrix(0, 2, nrow(pcs), dimnames = list(c("g1", "g2"), rownames(pcs)))
so <- suppressWarnings(CreateSeuratObject(as(zeros, "dgCMatrix"), meta.data = cells))
so[["pca"]] <- CreateDimReducObject(pcs, key = "PC_", assay = "RNA")
calls <- c(
  'RunHarmony(so, "condition", max.iter.harmony = 20)',
  'RunHarmony(so, "condition", tau = 5)',
  'RunHarmony(so, "condition", block.size = 0.1)',
  'RunHarmony(so, "condition", max.iter.cluster = 20)',
  'RunHarmony(so, "condition", epsilon.cluster = 1e-5)',
  'RunHarmony(so, "condition", epsilon.harmony = 1e-4)',
  'RunHarmony(so, "condition", reduction = "pca")',
  'RunHarmony(so, "condition", assay.use = "RNA")',
  'RunHarmony(so, "condition", lambda = 0)',
  'HarmonyMatrix(pcs, cells, "condition", do_pca = FALSE)',
  'RunHarmony(pcs, cells, "condition", do_pca = FALSE)'
)
message_of <- function(call) {
  tryCatch(
    {
      suppressMessages(eval(parse(text = call)))
      ""
    },
    error = function(error) strsplit(trimws(conditionMessage(error)), "\n")[[1]][1]
  )
}
errors <- data.frame(call = calls, message = vapply(calls, message_of, ""))
write.csv(errors, "errors.csv", row.names = FALSE)

version_of <- function(name) as.character(packageVersion(name))
writeLines(
  c(
    paste("R", getRversion()),
    paste("harmony", version_of("harmony")),
    paste("Seurat", version_of("Seurat")),
    # which BLAS decides how fast R multiplies matrices
    paste("BLAS", basename(extSoftVersion()[["BLAS"]]))
  ),
  "versions.txt"
)
