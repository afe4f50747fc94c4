"""From a stranger's file, data frame or data set to numbered records; imports only the error of the room above."""
