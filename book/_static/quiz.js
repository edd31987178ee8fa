// The questions at the end of a lesson. Without this file they can be read, and their answers are
// in a fold; with it, the button of a question says what is right or wrong with the answer chosen,
// in an element that screen readers read out when it changes, and the fold comes once it is solved.
for (const question of document.querySelectorAll(".quiz-question")) {
  const choices = [...question.querySelectorAll("input")];
  const button = question.querySelector(".quiz-check");
  const says = question.querySelector(".quiz-says");
  const answers = question.querySelector(".quiz-answers");
  answers.hidden = true;
  button.hidden = false;

  button.addEventListener("click", () => {
    const chosen = choices.findIndex((choice) => choice.checked);
    if (chosen < 0) {
      says.textContent = "Choose an answer first.";
      return;
    }
    const reason = answers.querySelectorAll("li")[chosen];
    says.innerHTML = `${reason.innerHTML} ${answers.querySelector(".quiz-see").innerHTML}`;
    says.dataset.right = reason.dataset.right;
    if (reason.dataset.right === "true") answers.hidden = false;
  });

  // what is said of one answer must not stand beside another
  question.addEventListener("change", () => {
    says.textContent = "";
    delete says.dataset.right;
  });
}
