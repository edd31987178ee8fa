// Search results show a line of each page found, which the browser may only fetch from a server.
// Opened from a folder, the results are listed without it, instead of with an error for each.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}
