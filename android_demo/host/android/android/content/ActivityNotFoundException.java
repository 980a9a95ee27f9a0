package android.content;

/** Stands in for Android's. */
public class ActivityNotFoundException extends RuntimeException {
    private static final long serialVersionUID = 1;
}
