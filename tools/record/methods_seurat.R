# The R side of methods.py, called as `Rscript methods_seurat.R FOLDER SETTING N_DIMS REDUCTION`.
# It reads FOLDER/SETTING.mtx (chosen genes x cells, log-normalised), FOLDER/SETTING.csv (the column
# batch) and FOLDER/SETTING loadings.csv (mean, standard deviation and PC loadings of each gene,
# before correction), and integrates with Seurat's anchors (REDUCTION is cca or rpca).  It writes the
# corrected genes in two forms: scaled anew and as PCs of their own, as Seurat's tutorial does, and
# brought into the scaling and onto the PCs of the uncorrected cells; with seconds of CPU and peak
# memory.

suppressMessages({
  library(Seurat)
  library(Matrix)
})
options(future.globals.maxSize = 8e9)
given <- commandArgs(trailingOnly = TRUE)
start <- file.path(given[1], given[2])
n <- as.integer(given[3])

logs <- as(readMM(paste0(start, ".mtx")), "CsparseMatrix")
rownames(logs) <- paste0("gene", seq_len(nrow(logs)))
colnames(logs) <- paste0("cell", seq_len(ncol(logs)))
cells <- read.csv(paste0(start, ".csv"), row.names = colnames(logs))
set.seed(0)

begin <- proc.time()
suppressWarnings({
  so <- CreateSeuratObject(logs, meta.data = cells)
  parts <- SplitObject(so, split.by = "batch")
  genes <- rownames(logs)
  if (given[4] == "rpca") {
    parts <- lapply(parts, function(part) {
      part <- ScaleData(part, features = genes, verbose = FALSE)
      RunPCA(part, features = genes, npcs = n, verbose = FALSE)
    })
  }
  anchors <- FindIntegrationAnchors(
    parts,
    anchor.features = genes, reduction = given[4], dims = seq_len(n), verbose = FALSE
  )
  both <- IntegrateData(anchors, dims = seq_len(n), verbose = FALSE)
  DefaultAssay(both) <- "integrated"
  both <- ScaleData(both, verbose = FALSE)
  both <- RunPCA(both, npcs = n, verbose = FALSE)
})
seconds <- sum((proc.time() - begin)[c(1, 2)])
embedding <- Embeddings(both, "pca")[colnames(logs), ]

axes <- as.matrix(read.csv(paste0(start, " loadings.csv")))
corrected <- as.matrix(GetAssayData(both, assay = "integrated"))
corrected <- (corrected[rownames(logs), colnames(logs)] - axes[, 1]) / axes[, 2]
projected <- t(pmax(pmin(corrected, 10), -10)) %*% axes[, -(1:2)]

status <- readLines("/proc/self/status")
peak <- as.numeric(gsub("[^0-9]", "", grep("^VmHWM", status, value = TRUE))) / 2^20
out <- paste0(start, " ", given[4])
plain <- list(sep = ",", row.names = FALSE, col.names = FALSE)
do.call(write.table, c(list(embedding, paste0(out, ".csv")), plain))
do.call(write.table, c(list(projected, paste0(out, " projected.csv")), plain))
version_of <- function(name) as.character(packageVersion(name))
writeLines(
  c(
    format(seconds), format(peak),
    paste("R", getRversion()), paste("Seurat", version_of("Seurat")),
    paste("BLAS", basename(extSoftVersion()[["BLAS"]]))
  ),
  paste0(out, ".txt")
)
